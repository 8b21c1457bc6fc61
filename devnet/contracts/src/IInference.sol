// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

/// Tensors as contracts write and read them.
library TensorLib {
    /// The decimal number `value / 10**decimals`. Negative decimals put zeros before the point.
    struct Number {
        int128 value;
        int128 decimals;
    }

    /// A named tensor of numbers, row-major; `shape` has the outermost dimension first.
    struct MultiDimensionalNumberTensor {
        string name;
        Number[] values;
        uint32[] shape;
    }

    /// A named tensor of strings.
    struct StringTensor {
        string name;
        string[] values;
    }

    /// A named JSON value.
    struct JsonScalar {
        string name;
        string value;
    }
}

/// How an answer is trusted: one shard's signature, or a quorum of equal answers (devnet stand-ins for ZK and TEE).
enum ModelInferenceMode {
    VANILLA,
    ZK,
    TEE
}

/// How a language model's answer is trusted. TEE has another number than in `ModelInferenceMode`.
enum LLMInferenceMode {
    VANILLA,
    TEE
}

/// Inputs of a model, matched by name.
struct ModelInput {
    TensorLib.MultiDimensionalNumberTensor[] numbers;
    TensorLib.StringTensor[] strings;
}

/// Which model, how, on what.
struct ModelInferenceRequest {
    ModelInferenceMode mode;
    string modelCID;
    ModelInput input;
}

/// Outputs of a model. `is_simulation_result` is always false here: discovery never answers, it aborts.
struct ModelOutput {
    TensorLib.MultiDimensionalNumberTensor[] numbers;
    TensorLib.StringTensor[] strings;
    TensorLib.JsonScalar[] jsons;
    bool is_simulation_result;
}

struct ToolCall {
    string id;
    string name;
    string arguments;
}

struct ToolDefinition {
    string description;
    string name;
    string parameters;
}

struct ChatMessage {
    string role;
    string content;
    string name;
    string tool_call_id;
    ToolCall[] tool_calls;
}

struct LLMChatRequest {
    LLMInferenceMode mode;
    string modelCID;
    ChatMessage[] messages;
    ToolDefinition[] tools;
    string tool_choice;
    uint32 max_tokens;
    string[] stop_sequence;
    uint32 temperature;
}

struct LLMChatResponse {
    string finish_reason;
    ChatMessage message;
}

struct LLMCompletionRequest {
    LLMInferenceMode mode;
    string modelCID;
    string prompt;
    uint32 max_tokens;
    string[] stop_sequence;
    uint32 temperature;
}

struct LLMCompletionResponse {
    string answer;
}

/// The inference precompile at 0xF4. Its ABI is OpenGradient's.
interface IInference {
    event ModelInferenceEvent(string inferenceID, ModelInferenceRequest request, ModelOutput response);
    event LLMCompletionEvent(string inferenceID, LLMCompletionRequest request, LLMCompletionResponse response);
    event LLMChat(string inferenceID, LLMChatRequest request, LLMChatResponse response);

    /// Runs a model. The answer is there when the call returns.
    function runModelInference(ModelInferenceRequest memory request) external returns (ModelOutput memory);

    /// Reverts with `Unsupported`: the devnet has no language models.
    function runLLMCompletion(LLMCompletionRequest memory request) external returns (LLMCompletionResponse memory);

    /// Reverts with `Unsupported`: the devnet has no language models.
    function runLLMChat(LLMChatRequest memory request) external returns (LLMChatResponse memory);
}

/// How the precompiles at 0xF4, 0xF5 and 0xF6 revert. All are deterministic: the network's own troubles never show.
interface IInferenceErrors {
    /// No model is registered by this id.
    error UnknownModel(string cid);
    /// The model has no output for this input. 1: wrong names, types or shapes; 2: NaN or infinity in the output;
    /// 3: a value that an operator has no result for; 4: too large.
    error ModelFailed(uint8 reason);
    /// The function is in OpenGradient's interface, but not here.
    error Unsupported();
    /// The calldata are no call of the interface.
    error BadRequest();
    /// A result of 0xF6 does not fit a `Number`.
    error Overflow();
    /// A result of 0xF6 is not defined for its input: the mean of nothing, the correlation of a constant.
    error Undefined();
    /// An input of 0xF6 is past its limits.
    error TooLarge();
}
