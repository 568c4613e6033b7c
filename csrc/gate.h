// What the channel gate of both backends checks, and how its tensors lie.
#pragma once

#include "checks.h"

namespace freqops {

using torch::headeronly::MemoryFormat;

// True where t, [N, C, H, W], is channels_last and not contiguous as well.
inline bool is_channels_last(const Tensor& t) {
  if (t.is_contiguous()) return false;
  int64_t expected = 1;
  for (const int dim : {1, 3, 2, 0}) {
    if (t.size(dim) != 1 && t.stride(dim) != expected) return false;
    expected *= t.size(dim);
  }
  return true;
}

inline Features features(const char* op, const char* argument, const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 4, op, ": ", argument, " must be [N, C, H, W], got ", shape_str(t));
  STD_TORCH_CHECK(t.size(2) >= 1 && t.size(3) >= 1, op, ": ", argument,
                  " must have at least one pixel, got ", shape_str(t));
  return {t.size(0), t.size(1), t.size(2) * t.size(3), is_channels_last(t),
          floating_type(op, argument, t.scalar_type())};
}

inline void check_same(const char* op, const char* argument, const Tensor& t, const Tensor& like) {
  bool same = t.dim() == like.dim();
  for (int64_t i = 0; same && i < t.dim(); ++i) same = t.size(i) == like.size(i);
  STD_TORCH_CHECK(same, op, ": ", argument, " must be ", shape_str(like), " like grad_y, got ",
                  shape_str(t));
  STD_TORCH_CHECK(t.scalar_type() == like.scalar_type(), op, ": ", argument,
                  " must have the dtype of grad_y, ", like.scalar_type(), ", got ",
                  t.scalar_type());
  STD_TORCH_CHECK(t.device() == like.device(), op, ": ", argument,
                  " must be on the device of the other tensors");
}

// noise and grad_gate: [N, C].
inline void check_per_channel(const char* op, const char* argument, const std::optional<Tensor>& t,
                              const Features& f, const Tensor& where) {
  if (!t.has_value()) return;
  STD_TORCH_CHECK(t->dim() == 2 && t->size(0) == f.batch && t->size(1) == f.channels, op, ": ",
                  argument, " must be [", f.batch, ", ", f.channels, "], got ", shape_str(*t));
  floating_type(op, argument, t->scalar_type());
  STD_TORCH_CHECK(t->device() == where.device(), op, ": ", argument,
                  " must be on the device of the other tensors");
}

inline void check_gate(const char* op, const Features& f, const Tensor& logits,
                       const std::optional<Tensor>& noise, const std::optional<Tensor>& tau,
                       const Tensor& where) {
  STD_TORCH_CHECK(logits.dim() == 3 && logits.size(0) == f.batch && logits.size(1) == f.channels &&
                      logits.size(2) == 2,
                  op, ": logits must be [", f.batch, ", ", f.channels, ", 2], got ",
                  shape_str(logits));
  floating_type(op, "logits", logits.scalar_type());
  STD_TORCH_CHECK(logits.device() == where.device(), op,
                  ": logits must be on the device of the other tensors");
  check_per_channel(op, "noise", noise, f, where);
  if (!tau.has_value()) return;
  STD_TORCH_CHECK(tau->dim() == 0, op, ": tau must have no dimension, got ", shape_str(*tau));
  STD_TORCH_CHECK(
      tau->scalar_type() == ScalarType::Float || tau->scalar_type() == ScalarType::Double, op,
      ": tau must be float32 or float64, got ", tau->scalar_type());
  STD_TORCH_CHECK(tau->device() == where.device(), op,
                  ": tau must be on the device of the other tensors");
}

inline MemoryFormat memory_format(bool channels_last) {
  return channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

// t where it lies as wanted, else a copy.
inline Tensor laid_out(const Tensor& t, bool channels_last) {
  if (channels_last ? is_channels_last(t) : t.is_contiguous()) return t;
  return torch::stable::contiguous(t, memory_format(channels_last));
}

inline std::optional<Tensor> laid_out(const std::optional<Tensor>& t, bool channels_last = false) {
  return t.has_value() ? std::optional<Tensor>(laid_out(*t, channels_last)) : std::nullopt;
}

// [N, C, H, W] in that layout; the shape is that of `like`.
inline Tensor empty_features(const Tensor& like, bool channels_last) {
  const int64_t sizes[] = {like.size(0), like.size(1), like.size(2), like.size(3)};
  return torch::stable::empty({sizes, 4}, like.scalar_type(), std::nullopt, like.device(),
                              std::nullopt, memory_format(channels_last));
}

// A result that is not wanted.
inline Tensor empty_result(const Tensor& like) {
  const int64_t sizes[] = {0};
  return torch::stable::empty({sizes, 1}, like.scalar_type(), std::nullopt, like.device());
}

// The kernels' sums, and the gate itself, are double where features or logits are.
inline bool computes_in_double(const Features& f, const Tensor& logits) {
  return is_double(f.type) || logits.scalar_type() == ScalarType::Double;
}

}  // namespace freqops
