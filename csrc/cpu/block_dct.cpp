#include "../checks.h"
#include "../ops.h"
#include "prepare.h"

namespace freqops::cpu {

Tensor block_dct(const Tensor& images, IntHeaderOnlyArrayRef channels,
                 const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                 const std::string& chroma_name, const std::string& rounding,
                 const std::string& dtype_name, bool channels_last, bool linear) {
  const char* op = "block_dct";
  check_pictures(op, "images", images);
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, images);
  check_statistic(op, "std", std, channels, images);
  const Statistics statistics(mean, std);
  check_values(op, statistics);
  const Type type = floating_or_uint8_type(op, "images", images.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type out_type = floating_type(op, "dtype", dtype);
  const Chroma chroma = chroma_mode(op, chroma_name);
  const bool jpeg = rounding_mode(op, rounding);

  const int64_t sizes[] = {images.size(0), int64_t(channels.size()), blocks(images.size(2)),
                           blocks(images.size(3))};
  Tensor out = torch::stable::empty({sizes, 4}, dtype, std::nullopt, images.device(), std::nullopt,
                                    channels_last ? torch::headeronly::MemoryFormat::ChannelsLast
                                                  : torch::headeronly::MemoryFormat::Contiguous);
  if (images.size(0) == 0) return out;

  const View in_view = input_view(images, type), out_view = output_view(out, out_type);
  with_acc(in_view, out_view, [&](auto zero) {
    launch(analysis_of_images<decltype(zero)>(in_view, out_view, channels, statistics, chroma, jpeg,
                                              channels_last, linear));
  });
  return out;
}

Tensor block_dct_backward(const Tensor& grad, IntHeaderOnlyArrayRef channels,
                          const std::optional<Tensor>& std, const std::string& chroma_name,
                          int64_t height, int64_t width, const std::string& dtype_name) {
  const char* op = "block_dct_backward";
  check_channels(op, channels);
  check_coefficients(op, "grad", grad, channels);
  check_covers(op, height, width, grad);
  check_statistic(op, "std", std, channels, grad);
  const Type type = floating_type(op, "grad", grad.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type out_type = floating_type(op, "dtype", dtype);
  const Chroma chroma = chroma_mode(op, chroma_name);

  const int64_t sizes[] = {grad.size(0), kComponents, height, width};
  Tensor out = torch::stable::empty({sizes, 4}, dtype, std::nullopt, grad.device());
  if (grad.size(0) == 0) return out;

  const View in_view = input_view(grad, type), out_view = output_view(out, out_type);
  with_acc(in_view, out_view, [&](auto zero) {
    launch(synthesis_of_gradient<decltype(zero)>(in_view, out_view, channels,
                                                 Statistics(std::nullopt, std), chroma));
  });
  return out;
}

}  // namespace freqops::cpu

STABLE_TORCH_LIBRARY_IMPL(freqops, CPU, m) {
  m.impl("block_dct", TORCH_BOX(&freqops::cpu::block_dct));
  m.impl("block_dct_backward", TORCH_BOX(&freqops::cpu::block_dct_backward));
}
