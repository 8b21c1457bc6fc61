// Tiles whose rows belong to a subgroup: each invocation reads one of eight elements of the rows, and broadcasts it to the
// others; its columns are its own, four side by side. Sums are of 64 bits.
// Reference: src/num/fixed.rs, src/gpu/packed.rs.
// Needs 64-bit integers, subgroups of at least eight invocations, and fixed.wgsl.

// Right operands that were packed for this: vectors of four neighbouring columns at one k; vectors of all columns, then
// by k, then by matrix. Narrow ones have two neighbouring k in a word, the even one in the lower half. Columns and k that
// were added are zero.
@group(0) @binding(3) var<storage, read> packed: array<vec4<u32>>;

// Whether values have at most 16 bits: then a product fits a word.
override NARROW: u32 = 0u;

// Fours of columns of an invocation, 1 or 2.
override FOURS: u32 = 2u;

// Invocations of a workgroup: no fewer than eight.
override LANES: u32 = 8u;

// Elements of rows that are broadcast at a time.
const BROADCAST: u32 = 8u;

// Four columns at two neighbouring k.
struct Pair {
  even: vec4<i32>,
  odd: vec4<i32>,
}

// Packed columns at an even k and the one behind it. `four` is their vector at the first k, of which there are `fours`.
// A word that is read costs a software adapter more than what takes it apart.
fn packed_pair(four: u32, fours: u32, k: u32) -> Pair {
  if (NARROW != 0u) {
    let words = bitcast<vec4<i32>>(packed[four + (k / 2u) * fours]);
    return Pair((words << vec4<u32>(16u)) >> vec4<u32>(16u), words >> vec4<u32>(16u));
  }
  let at = four + k * fours;
  return Pair(bitcast<vec4<i32>>(packed[at]), bitcast<vec4<i32>>(packed[at + fours]));
}

fn broadcast(mine: i32) -> array<i32, 8> {
  return array<i32, 8>(
    subgroupBroadcast(mine, 0u),
    subgroupBroadcast(mine, 1u),
    subgroupBroadcast(mine, 2u),
    subgroupBroadcast(mine, 3u),
    subgroupBroadcast(mine, 4u),
    subgroupBroadcast(mine, 5u),
    subgroupBroadcast(mine, 6u),
    subgroupBroadcast(mine, 7u),
  );
}

// Four sums: `wide`, or of narrow values the low words of the sums, and the sums of the products' high halves.
struct Sums {
  wide: vec4<i64>,
  high: vec4<i32>,
  low: vec4<i32>,
}

// Adds the products with two elements of a row. Sums of a large tile stand in memory: two products are worth one way there
// and back. Two narrow ones fit a word.
fn sums_add(s: Sums, b: Pair, even: i32, odd: i32) -> Sums {
  if (NARROW != 0u) {
    let products = b.even * even + b.odd * odd;
    return Sums(s.wide, s.high + (products >> vec4<u32>(16u)), s.low + products);
  }
  return Sums(s.wide + (vec4<i64>(b.even) * i64(even) + vec4<i64>(b.odd) * i64(odd)), s.high, s.low);
}

// One of the sums. The low halves of sums of two, of up to 2^16 narrow products, add up to less than 2^32: what the high
// halves lack of the low word.
fn sums_total(s: Sums, j: u32) -> vec2<u32> {
  if (NARROW != 0u) {
    let halves = bitcast<u32>(s.low[j]) - (bitcast<u32>(s.high[j]) << 16u);
    return wide_add(wide_shifted(s.high[j], 16u), vec2<u32>(halves, 0u));
  }
  let sum = s.wide[j];
  return vec2<u32>(u32(sum & 0xffffffffli), u32((sum >> 32u) & 0xffffffffli));
}
