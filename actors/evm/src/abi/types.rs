//! The Solidity types and selectors, as the compiler knows them. A test holds them against OpenGradient's ABI files.

/// Generated from our own Solidity interface (`devnet/contracts/src/IInference.sol`).
#[allow(
    missing_docs,
    clippy::too_many_arguments,
    reason = "documented where the interface is written"
)]
pub mod solidity {
    use alloy_sol_types::sol;

    sol! {
        struct Number { int128 value; int128 decimals; }
        struct MultiDimensionalNumberTensor { string name; Number[] values; uint32[] shape; }
        struct StringTensor { string name; string[] values; }
        struct JsonScalar { string name; string value; }
        struct ModelInput { MultiDimensionalNumberTensor[] numbers; StringTensor[] strings; }
        struct ModelInferenceRequest { uint8 mode; string modelCID; ModelInput input; }
        struct ModelOutput {
            MultiDimensionalNumberTensor[] numbers;
            StringTensor[] strings;
            JsonScalar[] jsons;
            bool is_simulation_result;
        }
        struct ToolCall { string id; string name; string arguments; }
        struct ToolDefinition { string description; string name; string parameters; }
        struct ChatMessage { string role; string content; string name; string tool_call_id; ToolCall[] tool_calls; }
        struct LLMChatRequest {
            uint8 mode; string modelCID; ChatMessage[] messages; ToolDefinition[] tools; string tool_choice;
            uint32 max_tokens; string[] stop_sequence; uint32 temperature;
        }
        struct LLMChatResponse { string finish_reason; ChatMessage message; }
        struct LLMCompletionRequest {
            uint8 mode; string modelCID; string prompt; uint32 max_tokens; string[] stop_sequence; uint32 temperature;
        }
        struct LLMCompletionResponse { string answer; }
        struct HistoricalInputQuery {
            string base; string quote; uint32 total_candles; uint32 candle_duration_in_mins; uint8 order;
            uint8[] candle_types;
        }

        event ModelInferenceEvent(string inferenceID, ModelInferenceRequest request, ModelOutput response);
        event InferenceResult(ModelOutput output);

        function runModelInference(ModelInferenceRequest request) returns (ModelOutput);
        function runLLMCompletion(LLMCompletionRequest request) returns (LLMCompletionResponse);
        function runLLMChat(LLMChatRequest request) returns (LLMChatResponse);
        function runInferenceOnPriceFeed(string modelId, string inputName, HistoricalInputQuery query)
            returns (ModelOutput);
        function queryHistoricalCandles(HistoricalInputQuery query) returns (Number[]);
        function run(string modelId, uint8 inferenceMode, ModelInput modelInput) returns (ModelOutput);

        function min(Number[] values) returns (Number);
        function max(Number[] values) returns (Number);
        function mean(Number[] values) returns (Number);
        function stdDev(Number[] values) returns (Number);
        function variance(Number[] values) returns (Number);
        function median(Number[] values) returns (Number);
        function standardize(Number[] values) returns (Number[]);
        function normalize(Number[] values) returns (Number[]);
        function correlation(Number[] a, Number[] b) returns (Number);

        error UnknownModel(string cid);
        error ModelFailed(uint8 reason);
        error Unsupported();
        error BadRequest();
        error Overflow();
        error Undefined();
        error TooLarge();
    }
}
