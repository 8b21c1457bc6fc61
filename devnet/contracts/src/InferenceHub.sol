// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {
    LLMChatRequest,
    LLMChatResponse,
    LLMCompletionRequest,
    LLMCompletionResponse,
    ModelInferenceMode,
    ModelInferenceRequest,
    ModelInput,
    ModelOutput
} from "./IInference.sol";
import {Inference} from "./Inference.sol";

/// The contract that OpenGradient's SDK calls: it passes requests on to the precompile and logs the answers.
contract InferenceHub {
    event InferenceResult(ModelOutput output);
    event LLMCompletionResult(LLMCompletionResponse response);
    event LLMChatResult(LLMChatResponse response);

    function run(string memory modelId, ModelInferenceMode inferenceMode, ModelInput memory modelInput)
        external
        returns (ModelOutput memory)
    {
        ModelOutput memory output = Inference.PRECOMPILE.runModelInference(
            ModelInferenceRequest({mode: inferenceMode, modelCID: modelId, input: modelInput})
        );
        emit InferenceResult(output);
        return output;
    }

    function runLLMCompletion(LLMCompletionRequest memory request) external returns (LLMCompletionResponse memory) {
        LLMCompletionResponse memory response = Inference.PRECOMPILE.runLLMCompletion(request);
        emit LLMCompletionResult(response);
        return response;
    }

    function runLLMChat(LLMChatRequest memory request) external returns (LLMChatResponse memory) {
        LLMChatResponse memory response = Inference.PRECOMPILE.runLLMChat(request);
        emit LLMChatResult(response);
        return response;
    }
}
