// From rows of pixels to vectors across blocks, and back.
//
// A row of N blocks is an array whose index is block * 8 + x. Taking the even and the odd elements
// apart moves the lowest bit of the index to the top; three times, and the index is x * N + block:
// vector x holds column x of all blocks. Interleaving two halves is the inverse.
#pragma once

#include "../math/dct8.h"
#include "simd.h"

namespace freqops::cpu {
namespace {

template <class V>
FREQOPS_INLINE void rows_to_lanes(V (&v)[kBlock]) {
  for (int stage = 0; stage < 3; ++stage) {
    V t[kBlock];
    for (int i = 0; i < 4; ++i) {
      t[i] = even(v[2 * i], v[2 * i + 1]);
      t[i + 4] = odd(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < kBlock; ++i) v[i] = t[i];
  }
}

template <class V>
FREQOPS_INLINE void lanes_to_rows(V (&v)[kBlock]) {
  for (int stage = 0; stage < 3; ++stage) {
    V t[kBlock];
    for (int i = 0; i < 4; ++i) {
      t[2 * i] = zip_low(v[i], v[i + 4]);
      t[2 * i + 1] = zip_high(v[i], v[i + 4]);
    }
    for (int i = 0; i < kBlock; ++i) v[i] = t[i];
  }
}

// The same for the bytes of N blocks, `period` to a block and row (24 where colours are
// interleaved): out[p * N + block] = in[block * period + p]. Interleaving the halves moves the
// highest bit of the index to the bottom: log2(N) times.
template <int period, int N>
FREQOPS_INLINE void bytes_to_lanes(const uint8_t* in, uint8_t* out) {
  constexpr int count = period * N / 16;
  if constexpr (count % 2 != 0) {  // no two halves of whole vectors
    for (int p = 0; p < period; ++p)
      for (int block = 0; block < N; ++block) out[p * N + block] = in[block * period + p];
  } else {
    Bytes v[count];
    for (int i = 0; i < count; ++i) v[i] = load_vector<Bytes>(in + 16 * i);
    for (int stage = 1; stage < N; stage *= 2) {
      Bytes t[count];
      for (int i = 0; i < count / 2; ++i) {
        t[2 * i] = zip_low(v[i], v[i + count / 2]);
        t[2 * i + 1] = zip_high(v[i], v[i + count / 2]);
      }
      for (int i = 0; i < count; ++i) v[i] = t[i];
    }
    for (int i = 0; i < count; ++i) store_vector(out + 16 * i, v[i]);
  }
}

}  // namespace
}  // namespace freqops::cpu
