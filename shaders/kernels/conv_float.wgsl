// Convolution of planes of floats, for exploring, in native floats, whose rounding and order are the device's. Register
// tile of 4 positions by 4 output channels.
//
// Libraries:   step, window
// Layout:      params as in conv.wgsl, without exponents; a work item is a tile, channels fastest, then positions, then
//              groups, then samples
// Dispatch:    ceil(samples * groups * ceil(positions / 4) * ceil(channels / 4) / 64) workgroups
// Overrides:   WEIGHT_SPACE, where the weights stand
// Reference:   src/cpu/float.rs

override WEIGHT_SPACE: u32 = 1u;

const GROUPS: u32 = 2u;
const CHANNELS_IN: u32 = 3u;
const CHANNELS_OUT: u32 = 4u;
const INPUT: u32 = 5u;
const WEIGHT: u32 = 7u;
const OUT: u32 = 9u;

fn weight(at: u32) -> f32 {
  if (WEIGHT_SPACE == 0u) {
    return bitcast<f32>(arena[at]);
  }
  return bitcast<f32>(weights[at]);
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

  var sums: array<vec4<f32>, 4>;
  var offset = vec3<u32>();
  var plane_at = params[INPUT] + image * channels_in * plane;
  for (var t = 0u; t < taps; t++) {
    let w = vec4<f32>(weight(weight_at.x + t), weight(weight_at.y + t), weight(weight_at.z + t), weight(weight_at.w + t));
    for (var p = 0u; p < 4u; p++) {
      sums[p] += bitcast<f32>(plane_word(plane_at, origin[p] + vec3<i32>(offset * dilation), input)) * w;
    }
    let next = window_step(offset, kernel);
    offset = next.xyz;
    plane_at += select(0u, plane, next.w != 0u);
  }
  for (var c = 0u; c < 4u; c++) {
    if (channel + c < channels_out) {
      let to = params[OUT] + (image * channels_out + channel + c) * positions + position;
      for (var p = 0u; p < 4u; p++) {
        if (position + p < positions) {
          arena[to + p] = bitcast<u32>(sums[p][c]);
        }
      }
    }
  }
}
