// Every operator, declared once for both backends. schema.cpp holds the schemas with the meaning of
// each argument; cpu/ and cuda/ hold one implementation each, in a file named after the operator.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "stable.h"

namespace freqops {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

#define FREQOPS_DECLARE_OPERATORS                                                                  \
  Tensor block_dct(const Tensor& images, IntHeaderOnlyArrayRef channels,                           \
                   const std::optional<Tensor>& mean, const std::optional<Tensor>& std,            \
                   const std::string& chroma, const std::string& rounding,                         \
                   const std::string& dtype, bool channels_last, bool linear);                     \
  Tensor block_dct_backward(const Tensor& grad, IntHeaderOnlyArrayRef channels,                    \
                            const std::optional<Tensor>& std, const std::string& chroma,           \
                            int64_t height, int64_t width, const std::string& dtype);              \
  Tensor block_dct_mean(const Tensor& images, IntHeaderOnlyArrayRef channels,                      \
                        const std::optional<Tensor>& mean, const std::optional<Tensor>& std,       \
                        const std::string& chroma);                                                \
  Tensor block_dct_gated(const Tensor& images, const Tensor& gate, IntHeaderOnlyArrayRef channels, \
                         const std::optional<Tensor>& mean, const std::optional<Tensor>& std,      \
                         const std::string& chroma, const std::string& dtype, bool channels_last); \
  Tensor block_idct(const Tensor& coefficients, IntHeaderOnlyArrayRef channels,                    \
                    const std::optional<Tensor>& mean, const std::optional<Tensor>& std,           \
                    int64_t height, int64_t width, const std::string& dtype, bool linear);         \
  Tensor block_idct_backward(const Tensor& grad, IntHeaderOnlyArrayRef channels,                   \
                             const std::optional<Tensor>& std, const std::string& dtype);          \
  Tensor jpeg_gather(const Tensor& y, const std::optional<Tensor>& cb,                             \
                     const std::optional<Tensor>& cr, const std::optional<Tensor>& tables,         \
                     IntHeaderOnlyArrayRef channels, const std::optional<Tensor>& mean,            \
                     const std::optional<Tensor>& std, const std::string& subsampling,             \
                     IntHeaderOnlyArrayRef scale_y, IntHeaderOnlyArrayRef scale_x, int64_t top,    \
                     int64_t left, int64_t rows, int64_t columns, bool flip,                       \
                     const std::string& dtype, bool channels_last);                                \
  std::tuple<Tensor, Tensor> gumbel_gate(const Tensor& x, const Tensor& logits,                    \
                                         const std::optional<Tensor>& noise,                       \
                                         const std::optional<Tensor>& tau, bool hard);             \
  std::tuple<Tensor, Tensor> gumbel_gate_backward(                                                 \
      const Tensor& grad_y, const std::optional<Tensor>& grad_gate,                                \
      const std::optional<Tensor>& x, const Tensor& logits, const std::optional<Tensor>& noise,    \
      const std::optional<Tensor>& tau, bool hard, bool need_x);

namespace cpu {
FREQOPS_DECLARE_OPERATORS
}  // namespace cpu

namespace cuda {
FREQOPS_DECLARE_OPERATORS
}  // namespace cuda

}  // namespace freqops
