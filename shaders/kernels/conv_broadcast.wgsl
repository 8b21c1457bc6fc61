// Convolution of fixed-point planes, by weights that are packed. Positions are broadcast.
//
// A workgroup makes eight positions of as many output channels as its invocations have.
//
// Libraries:   float, fixed, step, window, broadcast
// Layout:      params as in conv.wgsl, 12 vectors of a packed matrix at one element of a window, 13 vectors of a packed
//              matrix; a work item is a tile of 8 positions by LANES * FOURS * 4 channels, channels fastest, then positions,
//              then groups, then samples
// Dispatch:    one workgroup per work item
// Overrides:   NARROW, FOURS and LANES of lib/broadcast
// Reference:   src/cpu (Conv), src/num/fixed.rs

const GROUPS: u32 = 2u;
const CHANNELS_IN: u32 = 3u;
const CHANNELS_OUT: u32 = 4u;
const INPUT: u32 = 5u;
const INPUT_EXPONENT: u32 = 6u;
const WEIGHT_EXPONENT: u32 = 8u;
const OUT: u32 = 9u;
const UNITS: u32 = 10u;
const WHOLE: u32 = 11u;
const PACKED_FOURS: u32 = 12u;
const PACKED_MATRIX: u32 = 13u;

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let item = params[0] + workgroup.x + workgroup.y * groups.x;
  // The whole workgroup leaves, or none of it.
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

  let width = LANES * FOURS * 4u;
  let tiles_c = (channels_out + width - 1u) / width;
  let tiles_p = (positions + BROADCAST - 1u) / BROADCAST;
  let channel = (item % tiles_c) * width + index * FOURS * 4u;
  let position_tile = item / tiles_c;
  let position = (position_tile % tiles_p) * BROADCAST;
  // Sample and group together, as the input and the result have them.
  let image = position_tile / tiles_p;
  let group = image % params[GROUPS];

  // Channels and positions beyond the edge repeat the last one, and are not stored.
  let origin = window_origin(min(position + lane % BROADCAST, positions - 1u));
  var four_at: array<u32, 2>;
  for (var f = 0u; f < FOURS; f++) {
    four_at[f] = group * params[PACKED_MATRIX] + min(channel / 4u + f, params[PACKED_FOURS] - 1u);
  }
  var sums: array<Sums, 16>;
  var offset = vec3<u32>();
  var plane_at = params[INPUT] + image * channels_in * plane;
  // Two elements of a window a round, so that products come in pairs. Where their number is odd, the one behind the last
  // meets weights of zero.
  for (var t = 0u; t < taps; t += 2u) {
    var even = broadcast(plane_word(plane_at, origin + vec3<i32>(offset * dilation), input));
    let second = window_step(offset, kernel);
    plane_at += select(0u, plane, second.w != 0u && t + 1u < taps);
    var odd = broadcast(plane_word(plane_at, origin + vec3<i32>(second.xyz * dilation), input));
    for (var f = 0u; f < FOURS; f++) {
      let b = packed_pair(four_at[f], params[PACKED_FOURS], t);
      for (var p = 0u; p < BROADCAST; p++) {
        sums[p * FOURS + f] = sums_add(sums[p * FOURS + f], b, even[p], odd[p]);
      }
    }
    let third = window_step(second.xyz, kernel);
    offset = third.xyz;
    plane_at += select(0u, plane, third.w != 0u);
  }

  let input_exponent = arena[params[INPUT_EXPONENT] + image];
  for (var f = 0u; f < FOURS; f++) {
    for (var j = 0u; j < 4u; j++) {
      let c = channel + f * 4u + j;
      if (c < channels_out) {
        let weight_exponent = weights[params[WEIGHT_EXPONENT] + group * channels_out + c];
        let to = params[OUT] + (image * channels_out + c) * positions + position;
        for (var p = 0u; p < BROADCAST; p++) {
          if (position + p < positions) {
            let sum = sums_total(sums[p * FOURS + f], j);
            arena[to + p] = select(rescale(input_exponent, weight_exponent, params[UNITS], sum), sum.x, params[WHOLE] != 0u);
          }
        }
      }
    }
  }
}
