//! Which instructions are used: chosen when the executor is made, by what the processor has.

use super::{TILE_LANES, Tile};

/// Instructions that loops are compiled for. Each gives the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Plain Rust, for any processor: the definition as it is written.
    Portable,
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors with products of 16-bit pairs (AVX-512 F, BW, DQ, VL and VNNI).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Form {
    /// The fastest form of this processor.
    pub(crate) fn detect() -> Self {
        Self::all().pop().unwrap_or(Self::Portable)
    }

    /// Every form of this processor, the fastest last.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2");
            if avx2 {
                all.push(Self::Avx2);
            }
            if avx2
                && has!("avx512f")
                && has!("avx512bw")
                && has!("avx512dq")
                && has!("avx512vl")
                && has!("avx512vnni")
            {
                all.push(Self::Avx512);
            }
        }
        all
    }

    /// Name for logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512-vnni",
        }
    }

    /// Whether it has register tiles.
    pub(crate) const fn has_tiles(self) -> bool {
        !matches!(self, Self::Portable)
    }

    /// Adds a tile's sums, times its factor, to its totals.
    ///
    /// # Safety
    /// `tile`'s rows and panels are readable in all its pairs.
    #[inline]
    pub(super) unsafe fn tile(self, tile: &Tile, totals: &mut [[i64; TILE_LANES]]) {
        match self {
            Self::Portable => unreachable!("this form takes dot products row by row"),
            // SAFETY: `all` alone makes these variants, where the processor has the instructions; the rest is the caller's.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { super::avx2::tile(tile, totals) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { super::avx512::tile(tile, totals) },
        }
    }
}

/// Defines `name(form, arguments)`: the function `body`, compiled for each form's instructions. The operations and their
/// order are those of `body`: wider vectors change no bit, since Rust neither fuses nor reorders floats.
macro_rules! for_each_form {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:path) => {
        $(#[$meta])*
        $vis fn $name(form: $crate::cpu::kernel::Form, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $ret)? {
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $type),*) $(-> $ret)? {
                $body($($arg),*)
            }
            match form {
                $crate::cpu::kernel::Form::Portable => $body($($arg),*),
                // SAFETY: these variants are made where the processor has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::kernel::Form::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::kernel::Form::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use for_each_form;
