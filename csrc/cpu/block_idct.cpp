#include "../checks.h"
#include "../ops.h"
#include "prepare.h"

namespace freqops::cpu {

Tensor block_idct(const Tensor& coefficients, IntHeaderOnlyArrayRef channels,
                  const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                  int64_t height, int64_t width, const std::string& dtype_name, bool linear) {
  const char* op = "block_idct";
  check_channels(op, channels);
  check_distinct(op, channels);
  check_coefficients(op, "coefficients", coefficients, channels);
  check_within(op, height, width, coefficients);
  check_statistic(op, "mean", mean, channels, coefficients);
  check_statistic(op, "std", std, channels, coefficients);
  const Statistics statistics(mean, std);
  check_values(op, statistics);
  const Type type = floating_type(op, "coefficients", coefficients.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type out_type = floating_or_uint8_type(op, "dtype", dtype);

  const int64_t sizes[] = {coefficients.size(0), kComponents, height, width};
  Tensor out = torch::stable::empty({sizes, 4}, dtype, std::nullopt, coefficients.device());
  if (coefficients.size(0) == 0) return out;

  const View in_view = input_view(coefficients, type), out_view = output_view(out, out_type);
  with_acc(in_view, out_view, [&](auto zero) {
    launch(synthesis_of_images<decltype(zero)>(in_view, out_view, channels, statistics, linear));
  });
  return out;
}

Tensor block_idct_backward(const Tensor& grad, IntHeaderOnlyArrayRef channels,
                           const std::optional<Tensor>& std, const std::string& dtype_name) {
  const char* op = "block_idct_backward";
  check_pictures(op, "grad", grad);
  check_channels(op, channels);
  check_distinct(op, channels);
  check_statistic(op, "std", std, channels, grad);
  const Type type = floating_type(op, "grad", grad.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type out_type = floating_type(op, "dtype", dtype);

  const int64_t sizes[] = {grad.size(0), int64_t(channels.size()), blocks(grad.size(2)),
                           blocks(grad.size(3))};
  Tensor out = torch::stable::empty({sizes, 4}, dtype, std::nullopt, grad.device());
  if (grad.size(0) == 0) return out;

  const View in_view = input_view(grad, type), out_view = output_view(out, out_type);
  with_acc(in_view, out_view, [&](auto zero) {
    launch(analysis_of_gradient<decltype(zero)>(in_view, out_view, channels,
                                                Statistics(std::nullopt, std)));
  });
  return out;
}

}  // namespace freqops::cpu

STABLE_TORCH_LIBRARY_IMPL(freqops, CPU, m) {
  m.impl("block_idct", TORCH_BOX(&freqops::cpu::block_idct));
  m.impl("block_idct_backward", TORCH_BOX(&freqops::cpu::block_idct_backward));
}
