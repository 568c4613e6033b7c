// From an operator's arguments to kernel parameters.
#pragma once

#include <optional>

#include "../checks.h"
#include "params.h"

namespace freqops::cuda {

// Blocks of one launch: a batch with more is cut into launches of whole pictures. The emulation cuts
// early, so that its tests see it.
#if defined(FREQOPS_EMULATED)
constexpr int64_t kLaunchBlocks = 64;
#else
constexpr int64_t kLaunchBlocks = (int64_t(1) << 31) - 1;
#endif

inline bool is_double(ScalarType type) { return type == ScalarType::Double; }

// Calls fn with a value of the type that sums are carried in.
template <class Fn>
void with_accumulation_type(ScalarType input, ScalarType result, Fn fn) {
  if (is_double(input) || is_double(result)) {
    fn(double{});
  } else {
    fn(float{});
  }
}

// The bounds of 32-bit block numbers and pixel coordinates, for pictures of this many blocks.
inline void check_grid(const char* op, int64_t grid_height, int64_t grid_width) {
  constexpr int64_t kLimit = (int64_t(1) << 31) - 2 * kBlock;
  const int64_t longer = grid_height > grid_width ? grid_height : grid_width;
  STD_TORCH_CHECK(longer <= kLimit / kBlock && grid_height <= kLimit / grid_width, op,
                  ": a picture must have fewer than 2^31 rows, columns and 8x8 blocks, got ",
                  grid_height, " x ", grid_width, " blocks");
}

// As the kernels want them that go through columns of coefficients. A channels_last result is written
// entry after entry: its entries come in the order of the tensor.
inline Channels prepare_channels(IntHeaderOnlyArrayRef channels, bool channels_last = false) {
  Channels out{};
  out.count = int32_t(channels.size());
  int count[kChannels] = {};
  for (const int64_t c : channels) ++count[transposed(int(c))];
  int next[kChannels];
  for (int s = 0; s < kChannels; ++s) {
    next[s] = out.column_start[s];
    out.column_start[s + 1] = uint8_t(next[s] + count[s]);
    if (count[s] > 0) out.columns[s / kCoefficients] |= uint8_t(1 << s / kBlock % kBlock);
  }
  for (int i = 0; i < out.count; ++i) {
    const int e = channels_last ? i : next[transposed(int(channels[i]))]++;
    out.position[e] = uint8_t(i);
    out.coefficient[e] = uint8_t(channels[i]);
  }
  return out;
}

// The tensor's memory is read by the kernel: it must outlive the launch.
inline Statistic prepare_statistic(const std::optional<Tensor>& t) {
  if (!t.has_value()) return {nullptr, false, false};
  return {t->const_data_ptr(), is_double(t->scalar_type()), t->size(0) == kChannels};
}

inline std::optional<Tensor> dense(const std::optional<Tensor>& t) {
  if (!t.has_value() || t->is_contiguous()) return t;
  return torch::stable::contiguous(*t);
}

template <class acc>
void prepare_dct_scale(acc (&scale)[kCoefficients]) {
  for (int k = 0; k < kCoefficients; ++k)
    scale[k] = acc(dct8_scale(k / kBlock) * dct8_scale(k % kBlock));
}

// Calls launch(first picture, grid) for as many pictures at a time as one launch takes.
template <class Fn>
void for_each_launch(int64_t pictures, int64_t grid_height, int64_t grid_width, Fn launch) {
  const int64_t area = grid_height * grid_width;
  const int64_t step = area < kLaunchBlocks ? kLaunchBlocks / area : 1;
  for (int64_t first = 0; first < pictures; first += step) {
    const int64_t count = pictures - first < step ? pictures - first : step;
    launch(first, Grid{uint32_t(count * area), Divisor::of(uint32_t(area)),
                       Divisor::of(uint32_t(grid_width))});
  }
}

// `elements` past data, in elements of the type.
inline void* advance(void* data, Type type, int64_t elements) {
  constexpr int kSize[] = {1, 2, 2, 4, 8};
  return static_cast<char*>(data) + elements * kSize[int(type)];
}

}  // namespace freqops::cuda
