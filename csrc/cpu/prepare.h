// From operator arguments to kernel parameters.
#pragma once

#include <algorithm>
#include <optional>

#include "../checks.h"
#include "params.h"

namespace freqops::cpu {

// mean or std, by position or, where there are 192, by channel number. One that is not given is
// `none` everywhere. Asking a tensor is a call into torch, which would take longer than the rest of
// what an entry costs: it is asked once.
struct Statistic {
  const void* data = nullptr;
  int64_t count = 0, stride = 0;
  bool is_double = false;
  double none;

  Statistic(const std::optional<Tensor>& t, double none) : none(none) {
    if (!t.has_value()) return;
    data = t->const_data_ptr();
    count = t->size(0);
    stride = t->stride(0);
    is_double = t->scalar_type() == ScalarType::Double;
  }

  double operator[](int64_t i) const {
    if (is_double) return static_cast<const double*>(data)[i * stride];
    return static_cast<const float*>(data)[i * stride];
  }
  double at(int64_t i, int64_t channel) const {
    if (data == nullptr) return none;
    return (*this)[count == kChannels ? channel : i];
  }
};

struct Statistics {
  Statistic mean, std;

  Statistics(const std::optional<Tensor>& mean, const std::optional<Tensor>& std)
      : mean(mean, 0), std(std, 1) {}
};

// Checks that mean is finite, and std finite and greater than 0: all values, also those that are not
// read. The public functions say it in their own words.
void check_values(const char* op, const Statistics& statistics);

// Parameters of block_dct; `linear` leaves out level shift, mean and rounding.
template <class acc>
Analysis<acc> analysis_of_images(View images, View out, IntHeaderOnlyArrayRef channels,
                                 const Statistics& statistics, Chroma chroma, bool jpeg,
                                 bool channels_last, bool linear);

// Those of block_dct_gated for one picture and its gates: the channels that are open, which in
// channels_last are written beside zeros. Whether to stream is left to the caller.
template <class acc>
Analysis<acc> analysis_of_gated(View image, View out, IntHeaderOnlyArrayRef channels,
                                const Statistics& statistics, const double* gates, Chroma chroma,
                                bool channels_last);

// Parameters of block_idct_backward.
template <class acc>
Analysis<acc> analysis_of_gradient(View grad, View out, IntHeaderOnlyArrayRef channels,
                                   const Statistics& statistics);

// Parameters of block_idct.
template <class acc>
Synthesis<acc> synthesis_of_images(View coefficients, View out, IntHeaderOnlyArrayRef channels,
                                   const Statistics& statistics, bool linear);

// Parameters of block_dct_backward.
template <class acc>
Synthesis<acc> synthesis_of_gradient(View grad, View out, IntHeaderOnlyArrayRef channels,
                                     const Statistics& statistics, Chroma chroma);

// Runs the kernels over threads.
template <class acc>
void launch(const Analysis<acc>& p);
template <class acc>
void launch(const Synthesis<acc>& p);

// run(begin, end) over threads, for items that make up a result of these pictures.
template <class Run>
void run_in_parallel(const View& pictures, int64_t items, const Run& run) {
  constexpr int64_t kGrainPixels = 32768;  // below them a second thread costs more than it gains
  const int64_t pixels = pictures.batch * pictures.height * pictures.width;
  const int64_t grain = std::max<int64_t>(1, kGrainPixels * items / std::max<int64_t>(pixels, 1));
  torch::stable::parallel_for(0, items, grain, run);
}

// f(float{}) or f(double{}): sums are double where a tensor that is read or written is.
template <class F>
void with_acc(const View& in, const View& out, const F& f) {
  if (is_double(in.type) || is_double(out.type))
    f(double{});
  else
    f(float{});
}

}  // namespace freqops::cpu
