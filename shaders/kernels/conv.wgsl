// Convolution of fixed-point planes. Register tile of 4 positions by 4 output channels.
//
// Libraries:   float, fixed, tile, step, window
// Layout:      params 2 groups, 3 input channels per group, 4 output channels per group, 5 offset of the input,
//              6 of its exponents, 7 of the weights, 8 of theirs, 9 of the result, 10 sum of the units of both,
//              11 whether the result is the sum itself, 16 to 36 the window; a work item is a tile, channels fastest,
//              then positions, then groups, then samples
// Dispatch:    ceil(samples * groups * ceil(positions / 4) * ceil(channels / 4) / 64) workgroups
// Overrides:   WEIGHT_SPACE, where the weights stand; NARROW of lib/tile
// Reference:   src/cpu (Conv), src/num/fixed.rs

override WEIGHT_SPACE: u32 = 1u;

const GROUPS: u32 = 2u;
const CHANNELS_IN: u32 = 3u;
const CHANNELS_OUT: u32 = 4u;
const INPUT: u32 = 5u;
const INPUT_EXPONENT: u32 = 6u;
const WEIGHT: u32 = 7u;
const WEIGHT_EXPONENT: u32 = 8u;
const OUT: u32 = 9u;
const UNITS: u32 = 10u;
const WHOLE: u32 = 11u;

fn weight_word(at: u32) -> u32 {
  if (WEIGHT_SPACE == 0u) {
    return arena[at];
  }
  return weights[at];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let item = work_item(global, groups);
  if (item >= params[1]) {
    return;
  }
  let channels_in = params[CHANNELS_IN];
  let channels_out = params[CHANNELS_OUT];
  let input = window_word(0u);
  let output = window_word(1u);
  let kernel = window_word(2u);
  let dilation = window_word(4u);
  let positions = output.x * output.y * output.z;
  let plane = input.x * input.y * input.z;
  let taps = channels_in * kernel.x * kernel.y * kernel.z;

  let tiles_c = (channels_out + 3u) / 4u;
  let tiles_p = (positions + 3u) / 4u;
  let channel = (item % tiles_c) * 4u;
  let position_tile = item / tiles_c;
  let position = (position_tile % tiles_p) * 4u;
  // Sample and group together, as the input and the result have them.
  let image = position_tile / tiles_p;
  let group = image % params[GROUPS];

  // Channels and positions beyond the edge repeat the last one, and are not stored.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let channels = vec4<u32>(group * channels_out) + min(vec4<u32>(channel) + lanes, vec4<u32>(channels_out - 1u));
  let weight_at = vec4<u32>(params[WEIGHT]) + channels * taps;
  var origin: array<vec3<i32>, 4>;
  for (var p = 0u; p < 4u; p++) {
    origin[p] = window_origin(min(position + p, positions - 1u));
  }

  var totals: array<Totals, 4>;
  var offset = vec3<u32>();
  var plane_at = params[INPUT] + image * channels_in * plane;
  for (var start = 0u; start < taps; start += CHUNK) {
    var sums: array<Sums, 4>;
    let end = min(start + CHUNK, taps);
    for (var t = start; t < end; t++) {
      let words = vec4<u32>(
        weight_word(weight_at.x + t),
        weight_word(weight_at.y + t),
        weight_word(weight_at.z + t),
        weight_word(weight_at.w + t),
      );
      let w = digits4(bitcast<vec4<i32>>(words));
      for (var p = 0u; p < 4u; p++) {
        let q = plane_word(plane_at, origin[p] + vec3<i32>(offset * dilation), input);
        sums[p] = sums_add(sums[p], w, upper_digit(q), lower_digit(q));
      }
      let next = window_step(offset, kernel);
      offset = next.xyz;
      plane_at += select(0u, plane, next.w != 0u);
    }
    for (var p = 0u; p < 4u; p++) {
      totals[p] = totals_add_chunk(totals[p], sums[p]);
    }
  }

  let input_exponent = arena[params[INPUT_EXPONENT] + image];
  for (var c = 0u; c < 4u; c++) {
    if (channel + c < channels_out) {
      let weight_exponent = weight_word(params[WEIGHT_EXPONENT] + channels[c]);
      let to = params[OUT] + (image * channels_out + channel + c) * positions + position;
      for (var p = 0u; p < 4u; p++) {
        if (position + p < positions) {
          let sum = vec2<u32>(totals[p].low[c], totals[p].high[c]);
          arena[to + p] = select(rescale(input_exponent, weight_exponent, params[UNITS], sum), sum.x, params[WHOLE] != 0u);
        }
      }
    }
  }
}
