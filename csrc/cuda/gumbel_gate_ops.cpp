// The channel gate on CUDA tensors, or under the emulation of tests/emulation on CPU tensors: ops.cpp
// says what both have in common.
#include "gumbel_gate.h"

#include <initializer_list>

#include "../gate.h"
#include "../ops.h"
#include "device_scope.h"
#include "prepare.h"

namespace freqops::cuda {

namespace {

Operand operand(const std::optional<Tensor>& t) {
  if (!t.has_value()) return {nullptr, Type::kFloat};
  return {t->const_data_ptr(), floating_type("gumbel_gate", "operand", t->scalar_type())};
}

// Whether all of them begin at a multiple of 16 bytes; null does.
bool aligned(std::initializer_list<const void*> data) {
  for (const void* at : data)
    if (reinterpret_cast<uintptr_t>(at) % 16 != 0) return false;
  return true;
}

// How many elements a thread takes at a time: 16 bytes of them where whole planes, or the channels of
// a pixel, are a multiple of that. float64 kernels take one.
int width_of(const Features& f, bool channels_last, bool in_double) {
  const int width = f.type == Type::kFloat ? 4 : 8;
  return !in_double && (channels_last ? f.channels : f.pixels) % width == 0 ? width : 1;
}

// Shares the features out; the result is the number of thread blocks.
template <class Params>
int64_t share_out(Params& params, const Features& f, bool channels_last, int width, int rounds) {
  params.type = f.type;
  params.channels_last = channels_last;
  if (channels_last) {
    params.chunks = Chunks::of(f.batch, f.pixels, f.channels, width, rounds);
    return params.chunks.blocks();
  }
  params.segments = Segments::of(f.batch * f.channels, f.pixels, width, rounds);
  return params.segments.blocks();
}

// In as many launches as the number of blocks takes.
template <class Params>
void launch_blocks(cudaError_t (*launch)(const Params&, unsigned, cudaStream_t), Params params,
                   int64_t blocks, const DeviceScope& device) {
  for (int64_t first = 0; first < blocks; first += kLaunchBlocks) {
    const int64_t rest = blocks - first;
    params.first_block = first;
    check_launch(
        launch(params, unsigned(rest < kLaunchBlocks ? rest : kLaunchBlocks), device.stream()));
  }
}

// y = x * gate, both in the layout of channels_last; the gate too where it is wanted.
void apply_gate(const Features& f, bool channels_last, bool in_double, const void* x, void* y,
                const GateOperands& operands, void* gate, const DeviceScope& device) {
  GateParams params{};
  params.x = x;
  params.y = y;
  params.operands = operands;
  params.gate = gate;
  const int width = aligned({x, y}) ? width_of(f, channels_last, in_double) : 1;
  params.access = width > 1 ? Access::kVectors : Access::kElements;
  const int rounds = channels_last ? kChunkRounds : width > 1 ? kVectorRounds : kElementRounds;
  const int64_t blocks = share_out(params, f, channels_last, width, rounds);
  launch_blocks(in_double ? launch_gate<double> : launch_gate<float>, params, blocks, device);
}

}  // namespace

std::tuple<Tensor, Tensor> gumbel_gate(const Tensor& x, const Tensor& logits,
                                       const std::optional<Tensor>& noise,
                                       const std::optional<Tensor>& tau, bool hard) {
  constexpr const char* op = "gumbel_gate";
  const Features f = features(op, "x", x);
  check_gate(op, f, logits, noise, tau, x);

  const DeviceScope device(x);
  const Tensor x_laid = laid_out(x, f.channels_last), logits_laid = laid_out(logits, false);
  const std::optional<Tensor> noise_laid = laid_out(noise);
  Tensor y = empty_features(x, f.channels_last);
  Tensor gate =
      torch::stable::empty({f.batch, f.channels}, logits.scalar_type(), std::nullopt, x.device());
  if (y.numel() == 0) return {y, gate};

  const GateOperands operands{operand(logits_laid), operand(noise_laid), operand(tau), hard};
  apply_gate(f, f.channels_last, computes_in_double(f, logits), x_laid.const_data_ptr(),
             y.mutable_data_ptr(), operands, gate.mutable_data_ptr(), device);
  return {y, gate};
}

std::tuple<Tensor, Tensor> gumbel_gate_backward(
    const Tensor& grad_y, const std::optional<Tensor>& grad_gate, const std::optional<Tensor>& x,
    const Tensor& logits, const std::optional<Tensor>& noise, const std::optional<Tensor>& tau,
    bool hard, bool need_x) {
  constexpr const char* op = "gumbel_gate_backward";
  const Features f = features(op, "grad_y", grad_y);
  if (x.has_value()) check_same(op, "x", *x, grad_y);
  check_per_channel(op, "grad_gate", grad_gate, f, grad_y);
  check_gate(op, f, logits, noise, tau, grad_y);

  const DeviceScope device(grad_y);
  const bool channels_last = x.has_value() ? is_channels_last(*x) : f.channels_last;
  const bool in_double = computes_in_double(f, logits);
  const Tensor grad_laid = laid_out(grad_y, channels_last), logits_laid = laid_out(logits, false);
  const std::optional<Tensor> x_laid = laid_out(x, channels_last), noise_laid = laid_out(noise),
                              grad_gate_laid = laid_out(grad_gate);
  Tensor grad_x = need_x ? empty_features(grad_y, channels_last) : empty_result(grad_y);
  Tensor grad_logits = x.has_value()
                           ? torch::stable::empty({f.batch, f.channels, 2}, logits.scalar_type(),
                                                  std::nullopt, logits.device())
                           : empty_result(logits);
  if (grad_y.numel() == 0 || (!need_x && !x.has_value())) return {grad_x, grad_logits};

  const GateOperands operands{operand(logits_laid), operand(noise_laid), operand(tau), hard};
  if (!x.has_value()) {
    apply_gate(f, channels_last, in_double, grad_laid.const_data_ptr(), grad_x.mutable_data_ptr(),
               operands, nullptr, device);
    return {grad_x, grad_logits};
  }

  GateBackwardParams params{};
  params.grad_y = grad_laid.const_data_ptr();
  params.x = x_laid->const_data_ptr();
  params.grad_x = need_x ? grad_x.mutable_data_ptr() : nullptr;
  params.operands = operands;
  params.grad_gate = operand(grad_gate_laid);
  params.grad_logits = grad_logits.mutable_data_ptr();
  params.planes = f.batch * f.channels;
  const int width = width_of(f, channels_last, in_double);
  params.access = width == 1                                          ? Access::kElements
                  : aligned({params.grad_y, params.x, params.grad_x}) ? Access::kVectors
                                                                      : Access::kUnaligned;
  const int64_t blocks = share_out(params, f, channels_last, width, kBackwardRounds);
  params.parts = channels_last ? params.chunks.count : params.segments.count;
  std::optional<Tensor> partial;
  if (params.parts > 1) {
    partial = torch::stable::empty({params.planes, params.parts},
                                   in_double ? ScalarType::Double : ScalarType::Float, std::nullopt,
                                   grad_y.device());
    params.partial = partial->mutable_data_ptr();
  }
  launch_blocks(in_double ? launch_gate_backward<double> : launch_gate_backward<float>, params,
                blocks, device);
  if (params.parts > 1)
    launch_blocks(in_double ? launch_gate_finish<double> : launch_gate_finish<float>, params,
                  params.finish_blocks(), device);
  return {grad_x, grad_logits};
}

}  // namespace freqops::cuda

#if defined(FREQOPS_EMULATED)
STABLE_TORCH_LIBRARY_IMPL(freqops_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(freqops, CUDA, m) {
#endif
  using namespace freqops;
  m.impl("gumbel_gate", TORCH_BOX(&cuda::gumbel_gate));
  m.impl("gumbel_gate_backward", TORCH_BOX(&cuda::gumbel_gate_backward));
}
