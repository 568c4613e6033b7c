// The channel gate, of one channel of one picture. With logits [off, on] and logistic noise, the
// difference of two Gumbel samples:
//
//   z = on - off + noise,   p = 1 / (1 + exp(-z / tau)),   gate = z > 0 (hard) or p (soft)
//
// Both have the derivative of p in z (straight-through): p (1 - p) / tau.
#pragma once

#include <cmath>

#include "host_device.h"

namespace freqops {

// exp is only taken of what is not positive, so nothing overflows; NaN stays.
template <class acc>
FREQOPS_HOST_DEVICE acc sigmoid(acc z) {
  using std::exp;
  const acc e = exp(z < acc(0) ? z : -z);
  return (z < acc(0) ? e : acc(1)) / (acc(1) + e);
}

// p (1 - p) without the cancellation of 1 - p.
template <class acc>
FREQOPS_HOST_DEVICE acc sigmoid_slope(acc z) {
  using std::exp;
  const acc e = exp(z < acc(0) ? z : -z);
  return e / ((acc(1) + e) * (acc(1) + e));
}

// A tie is off. NaN stays, so that logits that diverged show: y is NaN then.
template <class acc>
FREQOPS_HOST_DEVICE acc gate_value(acc z, acc tau, bool hard) {
  if (hard) return z > acc(0) ? acc(1) : z <= acc(0) ? acc(0) : z;
  return sigmoid(z / tau);
}

template <class acc>
FREQOPS_HOST_DEVICE acc gate_slope(acc z, acc tau) {
  return sigmoid_slope(z / tau) / tau;
}

}  // namespace freqops
