#include "../gate.h"
#include "../math/gumbel.h"
#include "../ops.h"
#include "isa.h"
#include "stream.h"
#include "values.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

namespace freqops::cpu {

namespace {

template <class acc>
void store_value(void* data, Type type, int64_t i, acc value) {
  switch (type) {
    case Type::kHalf: static_cast<Half*>(data)[i] = Half(float(value)); break;
    case Type::kBfloat16: static_cast<BFloat16*>(data)[i] = BFloat16(float(value)); break;
    case Type::kFloat: static_cast<float*>(data)[i] = float(value); break;
    default: static_cast<double*>(data)[i] = double(value);
  }
}

// z and tau of every channel.
template <class acc>
struct Logits {
  Values logits, noise;
  acc tau;

  Logits(const char* op, const Tensor& logits, const std::optional<Tensor>& noise,
         const std::optional<Tensor>& tau)
      : logits(op, "logits", logits),
        noise(op, "noise", noise),
        tau(tau.has_value() ? Values(op, "tau", tau).at<acc>(0, 0) : acc(1)) {}

  acc z(int64_t n, int64_t c) const {
    const acc difference = logits.at<acc>(n, c, 1) - logits.at<acc>(n, c, 0);
    return noise.data ? difference + noise.at<acc>(n, c) : difference;
  }
};

// Channels and elements below which a second thread costs more than it gains.
constexpr int64_t kGrainChannels = 4096;
constexpr int64_t kGrainElements = 65536;

// run(n, c, index) for every channel of every picture.
template <class Run>
void for_each_channel(const Features& f, const Run& run) {
  torch::stable::parallel_for(0, f.batch * f.channels, kGrainChannels,
                              [&](int64_t begin, int64_t end) {
                                for (int64_t i = begin; i < end; ++i)
                                  run(i / f.channels, i % f.channels, i);
                              });
}

// An item is so many elements of a plane, or about as many in whole rows of channels. Of those a
// multiple of 32, so that each chunk of 2 or 4 byte elements begins with a cache line.
constexpr int64_t kChunk = 16384;

// What the kernels are told besides pointers. Chunks depend on sizes alone, and with them every sum.
template <class acc>
Gating<acc> gating_of(const Features& f, const acc* gates) {
  Gating<acc> p{};
  p.features = f;
  p.gates = gates;
  p.chunk = f.channels_last ? std::max<int64_t>(kChunk / f.channels / 32 * 32, 32) : kChunk;
  p.chunks = (f.pixels + p.chunk - 1) / p.chunk;
  // Gates and sums repeat with the channels. They are laid out so often that a whole number of cache
  // lines of features goes into a period: then a line's gates are neighbours too.
  constexpr int64_t kLineElements[] = {64, 32, 32, 16, 8};  // by Type
  if (f.channels_last) p.period = std::lcm(f.channels, kLineElements[int(f.type)]);
  return p;
}

template <class acc>
void launch(const Gating<acc>& p) {
  const Features& f = p.features;
  const int64_t items = p.chunks * f.batch * (f.channels_last ? 1 : f.channels);
  const int64_t elements = std::max<int64_t>(1, f.batch * f.channels * f.pixels / items);
  const auto gating = kernels<acc>().gating;
  torch::stable::parallel_for(0, items, std::max<int64_t>(1, kGrainElements / elements),
                              [&](int64_t begin, int64_t end) {
                                std::vector<acc> scratch(size_t(2 * p.period));
                                gating(p, scratch.data(), begin, end);
                              });
}

template <class Run>
void with_acc(bool in_double, const Run& run) {
  if (in_double)
    run(double{});
  else
    run(float{});
}

}  // namespace

std::tuple<Tensor, Tensor> gumbel_gate(const Tensor& x, const Tensor& logits,
                                       const std::optional<Tensor>& noise,
                                       const std::optional<Tensor>& tau, bool hard) {
  const char* op = "gumbel_gate";
  const Features f = features(op, "x", x);
  check_gate(op, f, logits, noise, tau, x);

  const Tensor in = laid_out(x, f.channels_last);
  Tensor y = empty_features(x, f.channels_last);
  const int64_t sizes[] = {f.batch, f.channels};
  Tensor gate = torch::stable::empty({sizes, 2}, logits.scalar_type(), std::nullopt, x.device());
  if (x.numel() == 0) return {y, gate};

  with_acc(computes_in_double(f, logits), [&](auto zero) {
    using acc = decltype(zero);
    const std::unique_ptr<acc[]> gates(new acc[f.batch * f.channels]);
    const Logits<acc> values(op, logits, noise, tau);
    const Type type = floating_type(op, "logits", logits.scalar_type());
    void* const result = gate.mutable_data_ptr();
    for_each_channel(f, [&](int64_t n, int64_t c, int64_t i) {
      gates[i] = gate_value(values.z(n, c), values.tau, hard);
      store_value(result, type, i, gates[i]);
    });
    Gating<acc> p = gating_of(f, gates.get());
    p.in = in.const_data_ptr();
    p.out = y.mutable_data_ptr();
    p.stream = is_streamed(p.out, y.numel() * int64_t(y.element_size()));
    launch(p);
  });
  return {y, gate};
}

std::tuple<Tensor, Tensor> gumbel_gate_backward(
    const Tensor& grad_y, const std::optional<Tensor>& grad_gate, const std::optional<Tensor>& x,
    const Tensor& logits, const std::optional<Tensor>& noise, const std::optional<Tensor>& tau,
    bool hard, bool need_x) {
  const char* op = "gumbel_gate_backward";
  Features f = features(op, "grad_y", grad_y);
  if (x.has_value()) {
    check_same(op, "x", *x, grad_y);
    f.channels_last = is_channels_last(*x);
  }
  check_gate(op, f, logits, noise, tau, grad_y);
  check_per_channel(op, "grad_gate", grad_gate, f, grad_y);

  const Tensor in = laid_out(grad_y, f.channels_last);
  const std::optional<Tensor> beside = laid_out(x, f.channels_last);
  Tensor grad_x = need_x ? empty_features(grad_y, f.channels_last) : empty_result(grad_y);
  const int64_t sizes[] = {f.batch, f.channels, 2};
  Tensor grad_logits = x.has_value() ? torch::stable::empty({sizes, 3}, logits.scalar_type(),
                                                            std::nullopt, grad_y.device())
                                     : empty_result(logits);
  if (grad_y.numel() == 0 || !(need_x || x.has_value())) return {grad_x, grad_logits};

  with_acc(computes_in_double(f, logits), [&](auto zero) {
    using acc = decltype(zero);
    const int64_t count = f.batch * f.channels;
    const std::unique_ptr<acc[]> gates(new acc[count]);
    Gating<acc> p = gating_of(f, gates.get());
    const int64_t parts = p.chunks;
    const std::unique_ptr<acc[]> sums(x.has_value() ? new acc[count * parts] : nullptr);
    const Logits<acc> values(op, logits, noise, tau);
    for_each_channel(f, [&](int64_t n, int64_t c, int64_t i) {
      gates[i] = gate_value(values.z(n, c), values.tau, hard);
    });
    p.in = in.const_data_ptr();
    if (need_x) {
      p.out = grad_x.mutable_data_ptr();
      p.stream = is_streamed(p.out, grad_x.numel() * int64_t(grad_x.element_size()));
    }
    if (x.has_value()) {
      p.beside = beside->const_data_ptr();
      p.sums = sums.get();
    }
    launch(p);
    if (!x.has_value()) return;

    const Type type = floating_type(op, "logits", logits.scalar_type());
    void* const result = grad_logits.mutable_data_ptr();
    const Values of_gate(op, "grad_gate", grad_gate);
    for_each_channel(f, [&](int64_t n, int64_t c, int64_t i) {
      double total = of_gate.data ? of_gate.at<double>(n, c) : 0;
      for (int64_t k = 0; k < parts; ++k)
        total += f.channels_last ? sums[(n * parts + k) * f.channels + c] : sums[i * parts + k];
      const double change = total * gate_slope(values.z(n, c), values.tau);
      store_value(result, type, 2 * i, -change);
      store_value(result, type, 2 * i + 1, change);
    });
  });
  return {grad_x, grad_logits};
}

}  // namespace freqops::cpu

STABLE_TORCH_LIBRARY_IMPL(freqops, CPU, m) {
  m.impl("gumbel_gate", TORCH_BOX(&freqops::cpu::gumbel_gate));
  m.impl("gumbel_gate_backward", TORCH_BOX(&freqops::cpu::gumbel_gate_backward));
}
