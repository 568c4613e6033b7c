// The operators on CUDA tensors, or under the emulation of tests/emulation on CPU tensors. No host
// synchronisation: kernels are put on the current stream, and what they read from the device (mean,
// std) they read themselves, so a call can be captured in a CUDA graph.
#include "../ops.h"

#include "../checks.h"
#include "../math/color.h"
#include "../schemas.h"
#include "device_scope.h"
#include "kernels.h"
#include "prepare.h"

namespace freqops::cuda {

namespace {

using torch::headeronly::MemoryFormat;

Tensor empty(const Tensor& like, IntHeaderOnlyArrayRef shape, ScalarType dtype,
             MemoryFormat format = MemoryFormat::Contiguous) {
  return torch::stable::empty(shape, dtype, std::nullopt, like.device(), std::nullopt, format);
}

template <class acc>
void analyse(AnalysisParams<acc> params, const DeviceScope& device) {
  const View pictures = params.pictures;
  void* const result = params.result;
  const int64_t grid_height = blocks(pictures.height), grid_width = blocks(pictures.width);
  prepare_dct_scale(params.dct_scale);
  params.access = widest_access(pictures);
  for_each_launch(pictures.batch, grid_height, grid_width, [&](int64_t first, const Grid& grid) {
    params.grid = grid;
    params.pictures.data = advance(pictures.data, pictures.type, first * pictures.stride_n);
    params.result = advance(result, params.result_type,
                            first * params.channels.count * grid_height * grid_width);
    check_launch(launch_analysis(params, device.stream()));
  });
}

template <class acc>
void synthesise(SynthesisParams<acc> params, const DeviceScope& device) {
  const View coefficients = params.coefficients;
  void* const result = params.result;
  prepare_dct_scale(params.dct_scale);
  params.wide = wide_result(result, params.result_type, params.width);
  for_each_launch(coefficients.batch, coefficients.height, coefficients.width,
                  [&](int64_t first, const Grid& grid) {
                    params.grid = grid;
                    params.coefficients.data = advance(coefficients.data, coefficients.type,
                                                       first * coefficients.stride_n);
                    params.result = advance(
                        result, params.result_type,
                        first * kComponents * int64_t(params.height) * int64_t(params.width));
                    check_launch(launch_synthesis(params, device.stream()));
                  });
}

// The adjoint of chroma "dctnet" needs neighbouring blocks: planes first, pixels from them.
template <class acc>
void synthesise_smoothed(SynthesisParams<acc> params, const Tensor& like,
                         const DeviceScope& device) {
  SmoothedAdjointParams<acc> adjoint{};
  adjoint.height = params.height;
  adjoint.width = params.width;
  adjoint.padded_height = int32_t(params.coefficients.height * kBlock);
  adjoint.padded_width = int32_t(params.coefficients.width * kBlock);
  adjoint.pixels = params.coefficients.batch * params.height * params.width;
  adjoint.matrix = params.matrix;
  adjoint.result = params.result;
  adjoint.result_type = params.result_type;

  constexpr bool kDouble = sizeof(acc) == sizeof(double);
  const Tensor planes = empty(
      like, {params.coefficients.batch, kComponents, adjoint.padded_height, adjoint.padded_width},
      kDouble ? ScalarType::Double : ScalarType::Float);
  adjoint.planes = static_cast<const acc*>(planes.const_data_ptr());

  params.planes_only = true;
  params.chroma = Chroma::k444;
  params.edge = Edge::kZero;
  params.height = adjoint.padded_height;
  params.width = adjoint.padded_width;
  params.result = planes.mutable_data_ptr();
  params.result_type = kDouble ? Type::kDouble : Type::kFloat;
  synthesise(params, device);
  check_launch(launch_smoothed_adjoint(adjoint, device.stream()));
}

}  // namespace

Tensor block_dct(const Tensor& images, IntHeaderOnlyArrayRef channels,
                 const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                 const std::string& chroma, const std::string& rounding,
                 const std::string& dtype_name, bool channels_last, bool linear) {
  constexpr const char* op = "block_dct";
  check_pictures(op, "images", images);
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, images);
  check_statistic(op, "std", std, channels, images);
  check_grid(op, blocks(images.size(2)), blocks(images.size(3)));
  const Type type = floating_or_uint8_type(op, "images", images.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type result_type = floating_type(op, "dtype", dtype);
  const Chroma smoothing = chroma_mode(op, chroma);
  const bool rounded = rounding_mode(op, rounding) && !linear;

  const DeviceScope device(images);
  const std::optional<Tensor> dense_mean = linear ? std::nullopt : dense(mean);
  const std::optional<Tensor> dense_std = dense(std);
  Tensor out = empty(
      images,
      {images.size(0), int64_t(channels.size()), blocks(images.size(2)), blocks(images.size(3))},
      dtype, channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
  if (out.numel() == 0) return out;

  with_accumulation_type(images.scalar_type(), dtype, [&](auto zero) {
    using acc = decltype(zero);
    const double white = type == Type::kUint8 ? 1 : kWhite;
    AnalysisParams<acc> params{};
    params.pictures = input_view(images, type);
    params.result = out.mutable_data_ptr();
    params.result_type = result_type;
    params.channels = prepare_channels(channels, channels_last);
    params.mean = prepare_statistic(dense_mean);
    params.std = prepare_statistic(dense_std);
    params.matrix =
        rounded ? color_matrix<acc>(kRgbToYcbcrJpeg, 1) : color_matrix<acc>(kRgbToYcbcr, white);
    params.shift = linear ? acc(0) : acc(-kLevelShift);
    params.white = acc(white);
    params.chroma = smoothing;
    params.edge = Edge::kReplicate;
    params.rounded = rounded;
    params.channels_last = channels_last;
    analyse(params, device);
  });
  return out;
}

Tensor block_dct_backward(const Tensor& grad, IntHeaderOnlyArrayRef channels,
                          const std::optional<Tensor>& std, const std::string& chroma,
                          int64_t height, int64_t width, const std::string& dtype_name) {
  constexpr const char* op = "block_dct_backward";
  check_channels(op, channels);
  check_coefficients(op, "grad", grad, channels);
  check_statistic(op, "std", std, channels, grad);
  check_covers(op, height, width, grad);
  check_grid(op, grad.size(2), grad.size(3));
  const Type type = floating_type(op, "grad", grad.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type result_type = floating_type(op, "dtype", dtype);
  const Chroma smoothing = chroma_mode(op, chroma);

  const DeviceScope device(grad);
  const std::optional<Tensor> dense_std = dense(std);
  Tensor out = empty(grad, {grad.size(0), kComponents, height, width}, dtype);
  if (out.numel() == 0) return out;

  with_accumulation_type(grad.scalar_type(), dtype, [&](auto zero) {
    using acc = decltype(zero);
    SynthesisParams<acc> params{};
    params.coefficients = input_view(grad, type);
    params.result = out.mutable_data_ptr();
    params.result_type = result_type;
    params.height = int32_t(height);
    params.width = int32_t(width);
    params.channels = prepare_channels(channels);
    params.std = prepare_statistic(dense_std);
    params.matrix = color_matrix<acc>(kRgbToYcbcr, kWhite, true);
    params.chroma = smoothing;
    params.edge = Edge::kReplicate;
    if (smoothing == Chroma::kDctnet) {
      synthesise_smoothed(params, grad, device);
    } else {
      synthesise(params, device);
    }
  });
  return out;
}

Tensor block_idct(const Tensor& coefficients, IntHeaderOnlyArrayRef channels,
                  const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                  int64_t height, int64_t width, const std::string& dtype_name, bool linear) {
  constexpr const char* op = "block_idct";
  check_channels(op, channels);
  check_distinct(op, channels);
  check_coefficients(op, "coefficients", coefficients, channels);
  check_statistic(op, "mean", mean, channels, coefficients);
  check_statistic(op, "std", std, channels, coefficients);
  check_within(op, height, width, coefficients);
  check_grid(op, coefficients.size(2), coefficients.size(3));
  const Type type = floating_type(op, "coefficients", coefficients.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type result_type = floating_or_uint8_type(op, "dtype", dtype);

  const DeviceScope device(coefficients);
  const std::optional<Tensor> dense_mean = linear ? std::nullopt : dense(mean);
  const std::optional<Tensor> dense_std = dense(std);
  Tensor out = empty(coefficients, {coefficients.size(0), kComponents, height, width}, dtype);
  if (out.numel() == 0) return out;

  with_accumulation_type(coefficients.scalar_type(), dtype, [&](auto zero) {
    using acc = decltype(zero);
    const double scale = result_type == Type::kUint8 ? 1 : 1 / kWhite;
    SynthesisParams<acc> params{};
    params.coefficients = input_view(coefficients, type);
    params.result = out.mutable_data_ptr();
    params.result_type = result_type;
    params.height = int32_t(height);
    params.width = int32_t(width);
    params.channels = prepare_channels(channels);
    params.mean = prepare_statistic(dense_mean);
    params.std = prepare_statistic(dense_std);
    if (params.mean.by_coefficient)  // absent channels count as their mean
      for (uint8_t& columns : params.channels.columns) columns = 0xff;
    params.matrix = color_matrix<acc>(kYcbcrToRgb, scale);
    params.shift = linear ? acc(0) : acc(kLevelShift * scale);
    params.chroma = Chroma::k444;
    params.edge = Edge::kZero;
    params.times_std = true;
    synthesise(params, device);
  });
  return out;
}

Tensor block_idct_backward(const Tensor& grad, IntHeaderOnlyArrayRef channels,
                           const std::optional<Tensor>& std, const std::string& dtype_name) {
  constexpr const char* op = "block_idct_backward";
  check_pictures(op, "grad", grad);
  check_channels(op, channels);
  check_distinct(op, channels);
  check_statistic(op, "std", std, channels, grad);
  check_grid(op, blocks(grad.size(2)), blocks(grad.size(3)));
  const Type type = floating_type(op, "grad", grad.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type result_type = floating_type(op, "dtype", dtype);

  const DeviceScope device(grad);
  const std::optional<Tensor> dense_std = dense(std);
  Tensor out = empty(
      grad, {grad.size(0), int64_t(channels.size()), blocks(grad.size(2)), blocks(grad.size(3))},
      dtype);
  if (out.numel() == 0) return out;

  with_accumulation_type(grad.scalar_type(), dtype, [&](auto zero) {
    using acc = decltype(zero);
    AnalysisParams<acc> params{};
    params.pictures = input_view(grad, type);
    params.result = out.mutable_data_ptr();
    params.result_type = result_type;
    params.channels = prepare_channels(channels);
    params.std = prepare_statistic(dense_std);
    params.matrix = color_matrix<acc>(kYcbcrToRgb, 1 / kWhite, true);
    params.chroma = Chroma::k444;
    params.edge = Edge::kZero;
    params.times_std = true;
    analyse(params, device);
  });
  return out;
}

}  // namespace freqops::cuda

#if defined(FREQOPS_EMULATED)
STABLE_TORCH_LIBRARY(freqops_emulated, m){
    FREQOPS_DEFINE_SCHEMAS(m)} STABLE_TORCH_LIBRARY_IMPL(freqops_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(freqops, CUDA, m) {
#endif
  using namespace freqops;
  m.impl("block_dct", TORCH_BOX(&cuda::block_dct));
  m.impl("block_dct_backward", TORCH_BOX(&cuda::block_dct_backward));
  m.impl("block_idct", TORCH_BOX(&cuda::block_idct));
  m.impl("block_idct_backward", TORCH_BOX(&cuda::block_idct_backward));
}
