//! The kernel table: which file a kernel is, and which library files stand before it.
//!
//! A module's text is the library files in the listed order, then the kernel: plain concatenation, so that the text that
//! runs is the text that naga validates in the tests.

/// A kernel file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    /// Element-wise programs over 32-bit kinds.
    Map,
    /// Element-wise programs with any instruction.
    MapAll,
    /// One element-wise program of plain instructions.
    MapPlain,
    /// One element-wise program with a special instruction.
    MapSpecial,
    /// One with two of them.
    MapSpecials,
    /// Strided copies.
    Copy,
    /// Reads at computed indices.
    Take,
    /// Sums and products of floats.
    Fold,
    /// Extremes, and folds of integers.
    Pick,
    /// Floats to fixed point.
    Quantise,
    /// The same, a row for each subgroup.
    QuantiseSubgroup,
    /// Dot products of fixed-point rows, in registers.
    Contract,
    /// The same, in more of them.
    ContractLarge,
    /// The same, in shared memory.
    ContractShared,
    /// The same, with sums that are split.
    ContractSplit,
    /// The same, with rows that are broadcast.
    ContractBroadcast,
    /// Layers of few rows.
    Dense,
    /// Convolutions.
    Conv,
    /// The same, with positions that are broadcast.
    ConvBroadcast,
    /// Dot products of rows of floats.
    ContractFloat,
    /// Convolutions of floats.
    ConvFloat,
    /// Pooling.
    Pool,
    /// Tree ensembles.
    Trees,
}

/// How kernels compute with floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Floats {
    /// On their bit patterns, in integers, whose arithmetic WGSL fixes: every device can.
    #[default]
    Soft,
    /// With the device's own, where the self-test found them right.
    Native,
}

impl Floats {
    /// The file that stands in the place of one for [`Floats::Soft`].
    const fn library(self, soft: &'static Library) -> &'static Library {
        match (self, soft.0.as_bytes()) {
            (Self::Native, b"soft") => &NATIVE,
            (Self::Native, b"exponential_soft") => &EXPONENTIAL,
            _ => soft,
        }
    }
}

/// A library file: its name, and its text.
type Library = (&'static str, &'static str);

macro_rules! library {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../kernels/lib/", $name, ".wgsl")),
        )
    };
}

const FLOAT: Library = library!("float");
const SOFT: Library = library!("soft");
const NATIVE: Library = library!("native");
const FIXED: Library = library!("fixed");
const ELEMENTARY: Library = library!("elementary");
const EXPONENTIAL: Library = library!("exponential");
const EXPONENTIAL_SOFT: Library = library!("exponential_soft");
const TRIGONOMETRIC: Library = library!("trigonometric");
const POWER: Library = library!("power");
const WIDE: Library = library!("wide");
const STEP: Library = library!("step");
const MAP: Library = library!("map");
const SLOTS: Library = library!("slots");
const SPECIAL: Library = library!("special");
const TILE: Library = library!("tile");
const OPERANDS: Library = library!("operands");
const WINDOW: Library = library!("window");
const ROWS: Library = library!("rows");
const BROADCAST: Library = library!("broadcast");

macro_rules! kernel {
    ($name:literal, $libraries:expr) => {
        (
            $name,
            include_str!(concat!("../../kernels/", $name, ".wgsl")),
            $libraries,
        )
    };
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Map,
        Self::MapAll,
        Self::MapPlain,
        Self::MapSpecial,
        Self::MapSpecials,
        Self::Copy,
        Self::Take,
        Self::Fold,
        Self::Pick,
        Self::Quantise,
        Self::QuantiseSubgroup,
        Self::Contract,
        Self::ContractLarge,
        Self::ContractShared,
        Self::ContractSplit,
        Self::ContractBroadcast,
        Self::Dense,
        Self::Conv,
        Self::ConvBroadcast,
        Self::ContractFloat,
        Self::ConvFloat,
        Self::Pool,
        Self::Trees,
    ];

    /// File name without ending, text, and libraries.
    const fn entry(self) -> (&'static str, &'static str, &'static [Library]) {
        match self {
            Self::Map => kernel!(
                "map",
                &[FLOAT, SOFT, FIXED, ELEMENTARY, EXPONENTIAL_SOFT, STEP, MAP]
            ),
            Self::MapAll => kernel!(
                "map_all",
                &[
                    FLOAT,
                    SOFT,
                    FIXED,
                    ELEMENTARY,
                    EXPONENTIAL_SOFT,
                    TRIGONOMETRIC,
                    POWER,
                    WIDE,
                    STEP,
                    MAP
                ]
            ),
            Self::MapPlain => kernel!("map_plain", &[FLOAT, SOFT, FIXED, STEP, MAP, SLOTS]),
            Self::MapSpecial => kernel!(
                "map_special",
                &[
                    FLOAT,
                    SOFT,
                    FIXED,
                    ELEMENTARY,
                    EXPONENTIAL_SOFT,
                    STEP,
                    MAP,
                    SLOTS,
                    SPECIAL
                ]
            ),
            Self::MapSpecials => kernel!(
                "map_specials",
                &[
                    FLOAT,
                    SOFT,
                    FIXED,
                    ELEMENTARY,
                    EXPONENTIAL_SOFT,
                    STEP,
                    MAP,
                    SLOTS,
                    SPECIAL
                ]
            ),
            Self::Copy => kernel!("copy", &[STEP]),
            Self::Take => kernel!("take", &[FLOAT, STEP]),
            Self::Fold => kernel!("fold", &[FLOAT, SOFT, STEP]),
            Self::Pick => kernel!("pick", &[FLOAT, FIXED, WIDE, STEP]),
            Self::Quantise => kernel!("quantise", &[FLOAT, FIXED, STEP, ROWS]),
            Self::QuantiseSubgroup => kernel!("quantise_subgroup", &[FLOAT, FIXED, STEP, ROWS]),
            Self::Contract => kernel!("contract", &[FLOAT, FIXED, TILE, STEP, OPERANDS]),
            Self::ContractLarge => kernel!("contract_large", &[FLOAT, FIXED, TILE, STEP, OPERANDS]),
            Self::ContractShared => {
                kernel!("contract_shared", &[FLOAT, FIXED, TILE, STEP, OPERANDS])
            }
            Self::ContractSplit => kernel!("contract_split", &[FLOAT, FIXED, TILE, STEP, OPERANDS]),
            Self::ContractBroadcast => kernel!(
                "contract_broadcast",
                &[FLOAT, FIXED, STEP, OPERANDS, BROADCAST]
            ),
            Self::Dense => kernel!(
                "dense",
                &[
                    FLOAT,
                    SOFT,
                    FIXED,
                    ELEMENTARY,
                    EXPONENTIAL_SOFT,
                    STEP,
                    MAP,
                    SLOTS,
                    SPECIAL,
                    BROADCAST
                ]
            ),
            Self::ConvBroadcast => {
                kernel!("conv_broadcast", &[FLOAT, FIXED, STEP, WINDOW, BROADCAST])
            }
            Self::Conv => kernel!("conv", &[FLOAT, FIXED, TILE, STEP, WINDOW]),
            Self::ContractFloat => kernel!("contract_float", &[STEP, OPERANDS]),
            Self::ConvFloat => kernel!("conv_float", &[STEP, WINDOW]),
            Self::Pool => kernel!("pool", &[FLOAT, SOFT, STEP, WINDOW]),
            Self::Trees => kernel!("trees", &[FLOAT, SOFT, STEP]),
        }
    }

    /// Name of the file, without ending.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.entry().0
    }

    /// Whether it needs 64-bit integers and subgroups.
    #[must_use]
    pub const fn broadcasts(self) -> bool {
        matches!(
            self,
            Self::QuantiseSubgroup | Self::ContractBroadcast | Self::Dense | Self::ConvBroadcast
        )
    }

    /// Whether it is of the mode `fast`, whose bits are the device's.
    #[must_use]
    pub const fn is_fast(self) -> bool {
        matches!(self, Self::ContractFloat | Self::ConvFloat)
    }

    /// The text of the module.
    #[must_use]
    pub fn text(self, floats: Floats) -> String {
        let (_, text, libraries) = self.entry();
        let libraries = libraries.iter().map(|library| floats.library(library).1);
        libraries.chain([text]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use std::collections::BTreeSet;
    use std::path::Path;

    fn files(folder: &str) -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        std::fs::read_dir(&path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .map(|entry| entry.expect("readable folder").path())
            .filter(|path| path.is_file())
            .map(|path| {
                assert_eq!(path.extension().and_then(|e| e.to_str()), Some("wgsl"));
                path.file_stem()
                    .and_then(|s| s.to_str())
                    .expect("plain name")
                    .to_owned()
            })
            .collect()
    }

    fn both_floats() -> impl Iterator<Item = (Kernel, Floats)> {
        let both = |kernel| [Floats::Soft, Floats::Native].map(|floats| (kernel, floats));
        Kernel::ALL.into_iter().flat_map(both)
    }

    #[test]
    fn every_kernel_is_valid_with_its_libraries() {
        let mut wrong = String::new();
        for (kernel, floats) in both_floats() {
            let text = kernel.text(floats);
            let capabilities = if kernel.broadcasts() {
                Capabilities::SHADER_INT64 | Capabilities::SUBGROUP
            } else {
                Capabilities::empty()
            };
            let result = naga::front::wgsl::parse_str(&text)
                .map_err(|e| e.emit_to_string(&text))
                .and_then(|module| {
                    Validator::new(ValidationFlags::all(), capabilities)
                        .validate(&module)
                        .map_err(|e| e.emit_to_string(&text))
                });
            if let Err(error) = result {
                wrong += &format!("{}, {floats:?}: {error}\n", kernel.name());
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    #[test]
    fn every_file_is_in_the_table() {
        let kernels: BTreeSet<String> = Kernel::ALL.iter().map(|k| k.name().to_owned()).collect();
        assert_eq!(files("kernels"), kernels);
        let libraries: BTreeSet<String> = both_floats()
            .flat_map(|(kernel, floats)| kernel.entry().2.iter().map(move |l| floats.library(l)))
            .map(|(name, _)| (*name).to_owned())
            .collect();
        assert_eq!(files("kernels/lib"), libraries);
    }

    #[test]
    fn every_header_names_its_libraries() {
        for kernel in Kernel::ALL {
            let (name, text, libraries) = kernel.entry();
            let listed: Vec<&str> = libraries.iter().map(|(name, _)| *name).collect();
            let line = format!("// Libraries:   {}\n", listed.join(", "));
            assert!(text.contains(&line), "{name} should say {line}");
        }
    }

    #[test]
    fn nothing_exact_but_the_native_library_has_floats() {
        let native = NATIVE.1;
        for (kernel, floats) in both_floats().filter(|(kernel, _)| !kernel.is_fast()) {
            let text = kernel.text(floats).replace(native, "");
            let code = text
                .lines()
                .map(|line| line.split("//").next().unwrap_or_default());
            for word in code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
            {
                assert!(
                    !matches!(word, "f32" | "f16" | "fma"),
                    "{} has {word}",
                    kernel.name()
                );
            }
        }
    }
}
