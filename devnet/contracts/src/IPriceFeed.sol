// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ModelOutput, TensorLib} from "./IInference.sol";

enum CandleOrder {
    ASCENDING,
    DESCENDING
}

enum CandleType {
    HIGH,
    LOW,
    OPEN,
    CLOSE,
    VOLUME
}

struct HistoricalInputQuery {
    string base;
    string quote;
    uint32 total_candles;
    uint32 candle_duration_in_mins;
    CandleOrder order;
    CandleType[] candle_types;
}

/// The price-history precompile at 0xF5. Reserved: the devnet has no price feed, and both functions revert with
/// `Unsupported`.
interface IPriceFeed {
    function runInferenceOnPriceFeed(string memory modelId, string memory inputName, HistoricalInputQuery memory query)
        external
        returns (ModelOutput memory);

    function queryHistoricalCandles(HistoricalInputQuery memory query) external returns (TensorLib.Number[] memory);
}
