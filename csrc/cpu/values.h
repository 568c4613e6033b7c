// Small tensors, read on the host.
#pragma once

#include <optional>

#include "../checks.h"

namespace freqops::cpu {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// A tensor of one number a channel, or two, whatever its type and strides.
struct Values {
  const void* data = nullptr;
  Type type = Type::kFloat;
  int64_t stride_n = 0, stride_c = 0, stride_k = 0;

  Values(const char* op, const char* argument, const std::optional<Tensor>& t) {
    if (!t.has_value()) return;
    data = t->const_data_ptr();
    type = floating_type(op, argument, t->scalar_type());
    if (t->dim() > 0) stride_n = t->stride(0);
    if (t->dim() > 1) stride_c = t->stride(1);
    if (t->dim() > 2) stride_k = t->stride(2);
  }

  template <class acc>
  acc at(int64_t n, int64_t c, int64_t k = 0) const {
    const int64_t i = n * stride_n + c * stride_c + k * stride_k;
    switch (type) {
      case Type::kHalf: return acc(float(static_cast<const Half*>(data)[i]));
      case Type::kBfloat16: return acc(float(static_cast<const BFloat16*>(data)[i]));
      case Type::kFloat: return acc(static_cast<const float*>(data)[i]);
      default: return acc(static_cast<const double*>(data)[i]);
    }
  }
};

}  // namespace freqops::cpu
