// Rows of floats that become fixed point.
// Params: 2 row dimensions, 3 dimensions in all, 4 columns, 5 offset of the integers, 6 offset of the exponents, 7 bits that
//         the largest value loses, 8 to 15 dimensions (rows, then columns), 16 view read, 30 largest magnitude.
// Reference: src/num/fixed.rs (quantise_into).
// Needs fixed.wgsl and step.wgsl.

// Whether a row's elements stand at one distance.
override FLAT: bool = false;

// Where they stand.
override SPACE: u32 = 0u;

const DIMS_ALL: u32 = 3u;
const COLUMNS: u32 = 4u;
const OUT_Q: u32 = 5u;
const OUT_EXPONENT: u32 = 6u;
const DROPPED: u32 = 7u;
const DIMS: u32 = 8u;
const INPUT: u32 = 16u;
const MOST: u32 = 30u;

// An element of the row that begins at `first`.
fn element(row: u32, column: u32, first: u32, distance: u32) -> u32 {
  var at: u32;
  if (FLAT) {
    at = first + column * distance;
  } else {
    at = view_at(INPUT, DIMS, params[DIMS_ALL], row * params[COLUMNS] + column);
  }
  if (SPACE == 0u) {
    return arena[at];
  }
  return weights[at];
}

// The place of a row's first element, and the distance from each to the next where they stand at one.
fn row_place(row: u32) -> vec2<u32> {
  let dims = params[DIMS_ALL];
  return vec2<u32>(view_at(INPUT, DIMS, dims, row * params[COLUMNS]), params[INPUT + 2u + dims]);
}

// The largest magnitude among every `lanes`th element of a row, from `lane` on.
fn row_largest(row: u32, lane: u32, lanes: u32) -> u32 {
  let columns = params[COLUMNS];
  let place = row_place(row);
  var largest = 0u;
  for (var c = lane; c < columns; c += lanes) {
    largest = max(largest, element(row, c, place.x, place.y) & MAGNITUDE);
  }
  return largest;
}

// Writes the integers of these elements, and the exponent, of a row with this largest magnitude.
fn quantise_row(row: u32, lane: u32, lanes: u32, largest: u32) {
  let columns = params[COLUMNS];
  let place = row_place(row);
  let exponent = row_exponent(largest);
  for (var c = lane; c < columns; c += lanes) {
    let q = quantise(element(row, c, place.x, place.y), exponent, params[DROPPED], i32(params[MOST]));
    arena[params[OUT_Q] + row * columns + c] = bitcast<u32>(q);
  }
  if (lane == 0u) {
    arena[params[OUT_EXPONENT] + row] = exponent;
  }
}
