//! What a model may ask of the engine. Models are untrusted input.

/// Limits on a model, checked at the door. Each refusal names the limit and the model's figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an ONNX file. 64 MiB: ten times the largest model that the tests run.
    pub file_bytes_max: usize,
    /// Nodes of a graph, those of subgraphs included. 20,000: a 100-layer transformer has about 3,000.
    pub nodes_max: usize,
    /// Constant tensors. As many as nodes.
    pub tensors_max: usize,
    /// Elements of one tensor, constant or not. 2^26: 256 MiB of floats.
    pub elements_max: u64,
    /// Depth of subgraphs in subgraphs. 4: exporters nest twice.
    pub depth_max: usize,
    /// Bytes of a name or a string. 1,024: exporters write paths of scopes, of a few hundred.
    pub string_bytes_max: usize,
    /// Words of a model's prepared weights. 2^25: 128 MiB, the smallest binding limit of an adapter that we run on.
    pub weight_words_max: u64,
    /// Words of the arena of one run. 2^25: 128 MiB, as above.
    pub arena_words_max: u64,
    /// Words of weights, of weights that a device packs a second time, and of the arena, all together. 3 * 2^25: 384 MiB, as
    /// much for the second as for each of the others. Narrow matrices may take more when they are packed than they have.
    pub memory_words_max: u64,
    /// Steps of a plan. 65,536: recurrent operators are unrolled in time.
    pub steps_max: usize,
    /// Multiplications of one run at batch 1. 2^37: about 10 s on one core.
    pub macs_max: u64,
    /// Rows that are joined into one run. 64: what fills a GPU on small models, and bounds the wait for a batch.
    pub batch_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes_max: 64 << 20,
            nodes_max: 20_000,
            tensors_max: 20_000,
            elements_max: 1 << 26,
            depth_max: 4,
            string_bytes_max: 1_024,
            weight_words_max: 1 << 25,
            arena_words_max: 1 << 25,
            memory_words_max: 3 << 25,
            steps_max: 65_536,
            macs_max: 1 << 37,
            batch_max: 64,
        }
    }
}
