// From operator arguments to kernel parameters.
#pragma once

#include <optional>

#include "../checks.h"
#include "params.h"

namespace freqops::cpu {

// mean and std of the chosen channels, in double; a statistic that is not given has none.
struct Statistics {
  const std::optional<Tensor>& mean;
  const std::optional<Tensor>& std;
};

// Parameters of block_dct; `linear` leaves out level shift, mean and rounding.
template <class acc>
Analysis<acc> analysis_of_images(View images, View out, IntHeaderOnlyArrayRef channels,
                                 Statistics statistics, Chroma chroma, bool jpeg,
                                 bool channels_last, bool linear);

// Parameters of block_idct_backward.
template <class acc>
Analysis<acc> analysis_of_gradient(View grad, View out, IntHeaderOnlyArrayRef channels,
                                   Statistics statistics);

// Parameters of block_idct.
template <class acc>
Synthesis<acc> synthesis_of_images(View coefficients, View out, IntHeaderOnlyArrayRef channels,
                                   Statistics statistics, bool linear);

// Parameters of block_dct_backward.
template <class acc>
Synthesis<acc> synthesis_of_gradient(View grad, View out, IntHeaderOnlyArrayRef channels,
                                     Statistics statistics, Chroma chroma);

// Runs the kernels over threads.
template <class acc>
void launch(const Analysis<acc>& p);
template <class acc>
void launch(const Synthesis<acc>& p);

// f(float{}) or f(double{}): sums are double where a tensor that is read or written is.
template <class F>
void with_acc(const View& in, const View& out, const F& f) {
  if (is_double(in.type) || is_double(out.type))
    f(double{});
  else
    f(float{});
}

}  // namespace freqops::cpu
