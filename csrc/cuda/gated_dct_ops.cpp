// The gated transform on CUDA tensors, or under the emulation of tests/emulation on CPU tensors: ops.cpp
// says what all have in common.
#include "../checks.h"
#include "../gate.h"
#include "../math/color.h"
#include "../ops.h"
#include "block_mean.h"
#include "device_scope.h"
#include "prepare.h"

namespace freqops::cuda {

namespace {

template <class acc>
void launch_means(MeanParams<acc> params, const DeviceScope& device) {
  const View pictures = params.pictures;
  const int64_t area = blocks(pictures.height) * blocks(pictures.width);
  const int64_t bands = (area + kBandBlocks - 1) / kBandBlocks;
  const int64_t step = bands < kLaunchBlocks ? kLaunchBlocks / bands : 1;
  params.grid = {0, Divisor::of(uint32_t(area)), Divisor::of(uint32_t(blocks(pictures.width)))};
  params.bands = Divisor::of(uint32_t(bands));
  params.access = widest_access(pictures);
  prepare_dct_scale(params.dct_scale);
  for (int64_t first = 0; first < pictures.batch; first += step) {
    MeanParams<acc> some = params;
    some.pictures.data = advance(pictures.data, pictures.type, first * pictures.stride_n);
    some.partial += first * bands * kBandSums;
    some.result += first * params.channels.count;
    some.pictures_count = uint32_t(pictures.batch - first < step ? pictures.batch - first : step);
    check_launch(launch_mean(some, device.stream()));
  }
}

// The fused kernel: uint8 and float32 pictures, results of at most 32 bits.
void launch_gated(AnalysisParams<float> params, const DeviceScope& device) {
  const AnalysisParams<float> all = params;
  const View& pictures = all.pictures;
  const int64_t grid_height = blocks(pictures.height), grid_width = blocks(pictures.width);
  const int64_t channels = all.channels.count;
  for_each_launch(pictures.batch, grid_height, grid_width, [&](int64_t first, const Grid& grid) {
    params.grid = grid;
    params.pictures.data = advance(pictures.data, pictures.type, first * pictures.stride_n);
    params.result =
        advance(all.result, all.result_type, first * channels * grid_height * grid_width);
    params.gate.data = advance(const_cast<void*>(all.gate.data), all.gate.type, first * channels);
    check_launch(launch_gated_analysis(params, device.stream()));
  });
}

template <class acc>
void launch_scalings(ScalingParams params, const DeviceScope& device) {
  const int64_t elements = params.pictures * params.channels * params.pixels;
  const int64_t count = (elements + kScalingThreads - 1) / kScalingThreads;
  for (int64_t first = 0; first < count; first += kLaunchBlocks) {
    params.first_block = first;
    const int64_t some = count - first < kLaunchBlocks ? count - first : kLaunchBlocks;
    check_launch(launch_scaling<acc>(params, unsigned(some), device.stream()));
  }
}

}  // namespace

Tensor block_dct_mean(const Tensor& images, IntHeaderOnlyArrayRef channels,
                      const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                      const std::string& chroma_name) {
  constexpr const char* op = "block_dct_mean";
  check_pictures(op, "images", images);
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, images);
  check_statistic(op, "std", std, channels, images);
  check_grid(op, blocks(images.size(2)), blocks(images.size(3)));
  const Type type = floating_or_uint8_type(op, "images", images.scalar_type());
  const Chroma chroma = chroma_mode(op, chroma_name);
  const ScalarType dtype = is_double(type) ? ScalarType::Double : ScalarType::Float;

  const DeviceScope device(images);
  const std::optional<Tensor> dense_mean = dense(mean), dense_std = dense(std);
  const int64_t area = blocks(images.size(2)) * blocks(images.size(3));
  const int64_t bands = (area + kBandBlocks - 1) / kBandBlocks;
  Tensor out = torch::stable::empty({images.size(0), int64_t(channels.size())}, dtype, std::nullopt,
                                    images.device());
  if (out.numel() == 0) return out;
  Tensor partial = torch::stable::empty({images.size(0) * bands, kBandSums}, dtype, std::nullopt,
                                        images.device());

  with_accumulation_type(dtype, dtype, [&](auto zero) {
    using acc = decltype(zero);
    MeanParams<acc> params{};
    params.pictures = input_view(images, type);
    params.partial = static_cast<acc*>(partial.mutable_data_ptr());
    params.result = static_cast<acc*>(out.mutable_data_ptr());
    params.channels = prepare_channels(channels, false);
    params.mean = prepare_statistic(dense_mean);
    params.std = prepare_statistic(dense_std);
    params.matrix = color_matrix<double>(kRgbToYcbcr, type == Type::kUint8 ? 1 : kWhite);
    params.chroma = chroma;
    launch_means(params, device);
  });
  return out;
}

Tensor block_dct_gated(const Tensor& images, const Tensor& gate, IntHeaderOnlyArrayRef channels,
                       const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                       const std::string& chroma_name, const std::string& dtype_name,
                       bool channels_last) {
  constexpr const char* op = "block_dct_gated";
  check_pictures(op, "images", images);
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, images);
  check_statistic(op, "std", std, channels, images);
  check_grid(op, blocks(images.size(2)), blocks(images.size(3)));
  const Type type = floating_or_uint8_type(op, "images", images.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type result_type = floating_type(op, "dtype", dtype);
  const Chroma chroma = chroma_mode(op, chroma_name);
  const int64_t pictures = images.size(0), count = int64_t(channels.size());
  const int64_t grid_height = blocks(images.size(2)), grid_width = blocks(images.size(3));
  check_per_channel(op, "gate", gate, Features{pictures, count, 0, false, result_type}, images);

  const DeviceScope device(images);
  const Tensor dense_gate = laid_out(gate, false);
  const Gate gates{dense_gate.const_data_ptr(), floating_type(op, "gate", gate.scalar_type())};
  Tensor out = torch::stable::empty({pictures, count, grid_height, grid_width}, dtype, std::nullopt,
                                    images.device(), std::nullopt, memory_format(channels_last));
  if (out.numel() == 0) return out;

  if ((type == Type::kUint8 || type == Type::kFloat) && !is_double(result_type)) {
    const std::optional<Tensor> dense_mean = dense(mean), dense_std = dense(std);
    AnalysisParams<float> params{};
    params.pictures = input_view(images, type);
    params.result = out.mutable_data_ptr();
    params.result_type = result_type;
    params.channels = prepare_channels(channels, channels_last);
    params.mean = prepare_statistic(dense_mean);
    params.std = prepare_statistic(dense_std);
    params.gate = gates;
    params.matrix = color_matrix<float>(kRgbToYcbcr, type == Type::kUint8 ? 1 : kWhite);
    params.shift = float(-kLevelShift);
    params.white = 1;
    prepare_dct_scale(params.dct_scale);
    params.access = widest_access(params.pictures);
    params.chroma = chroma;
    params.edge = Edge::kReplicate;
    params.channels_last = channels_last;
    launch_gated(params, device);
    return out;
  }

  const bool in_double = is_double(type) || is_double(result_type);
  const Tensor whole = block_dct(images, channels, mean, std, chroma_name, "none",
                                 in_double ? "float64" : "float32", channels_last, false);
  ScalingParams params{};
  params.x = whole.const_data_ptr();
  params.y = out.mutable_data_ptr();
  params.type = result_type;
  params.gate = gates;
  params.pictures = pictures;
  params.channels = count;
  params.pixels = grid_height * grid_width;
  params.channels_last = channels_last;
  if (in_double)
    launch_scalings<double>(params, device);
  else
    launch_scalings<float>(params, device);
  return out;
}

}  // namespace freqops::cuda

#if defined(FREQOPS_EMULATED)
STABLE_TORCH_LIBRARY_IMPL(freqops_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(freqops, CUDA, m) {
#endif
  using namespace freqops;
  m.impl("block_dct_mean", TORCH_BOX(&cuda::block_dct_mean));
  m.impl("block_dct_gated", TORCH_BOX(&cuda::block_dct_gated));
}
