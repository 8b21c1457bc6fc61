//! Plain HTTP beside JSON-RPC: `/health`, the route that OpenGradient's SDK asks when a log holds no output, and silence
//! where a notification asks for none.

use crate::pipe::ModelOutput;
use crate::reader::{AnswerView, ChainReader};
use base64::Engine;
use http_body::Body;
use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use penstock_rules::ids::RequestKey;
use serde_json::json;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Path of OpenGradient's route, before the inference id (the request key in hex).
const INFERENCE_PATH: &str = "/artela-network/artela-rollkit/inference/tx/";

/// Adds the routes to a server.
#[derive(Clone)]
pub struct RestLayer {
    reader: Arc<dyn ChainReader>,
}

impl RestLayer {
    /// Over this chain.
    pub fn new(reader: Arc<dyn ChainReader>) -> Self {
        Self { reader }
    }
}

impl<S> Layer<S> for RestLayer {
    type Service = Rest<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Rest {
            inner,
            reader: self.reader.clone(),
        }
    }
}

/// A server with the routes.
#[derive(Clone)]
pub struct Rest<S> {
    inner: S,
    reader: Arc<dyn ChainReader>,
}

impl<S, B> Service<HttpRequest<B>> for Rest<S>
where
    S: Service<HttpRequest<B>, Response = HttpResponse>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = HttpResponse;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        match Route::of(request.method().as_str(), request.uri().path()) {
            None => {
                let answer = self.inner.call(request);
                Box::pin(async move { answer.await.map(without_null) })
            }
            Some(route) => {
                let reader = self.reader.clone();
                Box::pin(async move { Ok(route.answer(&*reader).await) })
            }
        }
    }
}

/// jsonrpsee answers `null` to a notification; JSON-RPC, and all other nodes, answer nothing. No answer to a request is
/// as short as that.
fn without_null(response: HttpResponse) -> HttpResponse {
    if response.body().size_hint().exact() != Some("null".len() as u64) {
        return response;
    }
    let (mut head, _) = response.into_parts();
    head.headers.remove("content-length");
    HttpResponse::from_parts(head, HttpBody::default())
}

#[derive(Debug, PartialEq, Eq)]
enum Route {
    Health,
    Inference(Option<RequestKey>),
}

impl Route {
    fn of(method: &str, path: &str) -> Option<Self> {
        if method != "GET" {
            return None;
        }
        if path == "/health" {
            return Some(Self::Health);
        }
        let id = path.strip_prefix(INFERENCE_PATH)?;
        Some(Self::Inference(id.parse().ok().map(RequestKey)))
    }

    async fn answer(self, reader: &dyn ChainReader) -> HttpResponse {
        match self {
            Self::Health => json_response(
                200,
                &json!({ "status": "ok", "head": reader.head().header.number }),
            ),
            Self::Inference(key) => {
                let answer = match key {
                    Some(key) => reader.answer(key).await,
                    None => None,
                };
                match answer {
                    Some(answer) => json_response(200, &inference(&answer)),
                    // The form of a Cosmos gateway, which this route comes from; 5 is "not found" there.
                    None => json_response(
                        404,
                        &json!({ "code": 5, "message": "inference result not found" }),
                    ),
                }
            }
        }
    }
}

/// The answer that the SDK unpacks: base64 of a JSON document, with the output under the name of each mode.
fn inference(answer: &AnswerView) -> serde_json::Value {
    let output = json!({ "model_output": ModelOutput::from(answer) });
    let document = json!({
        "InferenceResult": {
            "VanillaResult": output,
            "ZkmlResult": output,
            "TeeNodeResult": { "Response": { "VanillaResponse": output } },
        }
    });
    let encoded = base64::engine::general_purpose::STANDARD.encode(document.to_string());
    json!({ "inference_results": [encoded] })
}

fn json_response(status: u16, body: &serde_json::Value) -> HttpResponse {
    let mut response = HttpResponse::new(HttpBody::from(body.to_string()));
    if let Ok(status) = status.try_into() {
        *response.status_mut() = status;
    }
    if let Ok(kind) = "application/json".parse() {
        response.headers_mut().insert("content-type", kind);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    #[test]
    fn only_get_requests_of_known_paths_are_taken() {
        let key = RequestKey(B256::repeat_byte(7));
        let path = format!("{INFERENCE_PATH}{key}");
        assert_eq!(Route::of("GET", "/health"), Some(Route::Health));
        assert_eq!(Route::of("GET", &path), Some(Route::Inference(Some(key))));
        assert_eq!(
            Route::of("GET", &format!("{INFERENCE_PATH}nonsense")),
            Some(Route::Inference(None))
        );
        assert_eq!(Route::of("POST", "/health"), None);
        assert_eq!(Route::of("GET", "/"), None);
    }
}
