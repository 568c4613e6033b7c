// From rows of pixels to vectors across blocks, and back.
//
// A row of N blocks is an array whose index is block * 8 + x. Taking the even and the odd elements
// apart moves the lowest bit of the index to the top; three times, and the index is x * N + block:
// vector x holds column x of all blocks. Interleaving two halves is the inverse.
#pragma once

#include <array>

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

// N vectors of N lanes, as a matrix.
template <class V, int N>
FREQOPS_INLINE void transpose(V (&v)[N]) {
  static_assert(Element<V>::lanes == N, "square");
  for (int stage = 1; stage < N; stage *= 2) {
    V t[N];
    for (int i = 0; i < N / 2; ++i) {
      t[2 * i] = zip_low(v[i], v[i + N / 2]);
      t[2 * i + 1] = zip_high(v[i], v[i + N / 2]);
    }
    for (int i = 0; i < N; ++i) v[i] = t[i];
  }
}

#if defined(__AVX512F__)
// bytes_to_lanes for 16 blocks of 8 bytes. Pairs of blocks meet in 16-bit words within a lane, then
// the words of a column from all lanes.
FREQOPS_INLINE void bytes_to_lanes_8(const uint8_t* in, uint8_t* out) {
  const __m512i pairs = _mm512_set4_epi32(0x0f070e06, 0x0d050c04, 0x0b030a02, 0x09010800);
  alignas(64) static constexpr auto columns = [] {
    std::array<uint16_t, 32> index{};
    for (int i = 0; i < 32; ++i) index[i] = uint16_t(i % 8 * 8 + i / 8);
    return index;
  }();
  const __m512i low = _mm512_load_si512(columns.data());
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(4));
  const __m512i a = _mm512_shuffle_epi8(_mm512_loadu_si512(in), pairs);
  const __m512i b = _mm512_shuffle_epi8(_mm512_loadu_si512(in + 64), pairs);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi16(a, low, b));
  _mm512_storeu_si512(out + 64, _mm512_permutex2var_epi16(a, high, b));
}

// bytes_to_lanes for 16 blocks of 24 bytes: dword q of all blocks, six apart in memory, from the
// three pairs of registers it is spread over; then its four bytes apart.
FREQOPS_INLINE void bytes_to_lanes_24(const uint8_t* in, uint8_t* out) {
  const __m512i bytes = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  const __m512i dwords = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512i v[6];
  for (int i = 0; i < 6; ++i) v[i] = _mm512_loadu_si512(in + 64 * i);
  __m512i index = _mm512_setr_epi32(0, 6, 12, 18, 24, 30, 36, 42, 48, 54, 60, 66, 72, 78, 84, 90);
#pragma GCC unroll 6
  for (int q = 0; q < 6; ++q) {
    // permutex2var reads the lowest five bits of an index
    __m512i x = _mm512_permutex2var_epi32(v[0], index, v[1]);
    x = _mm512_mask_mov_epi32(x, _mm512_cmpge_epi32_mask(index, _mm512_set1_epi32(32)),
                              _mm512_permutex2var_epi32(v[2], index, v[3]));
    x = _mm512_mask_mov_epi32(x, _mm512_cmpge_epi32_mask(index, _mm512_set1_epi32(64)),
                              _mm512_permutex2var_epi32(v[4], index, v[5]));
    x = _mm512_maskz_permutexvar_epi32(0xffff, dwords, _mm512_shuffle_epi8(x, bytes));
    _mm512_storeu_si512(out + 64 * q, x);
    index = _mm512_add_epi32(index, _mm512_set1_epi32(1));
  }
}
#endif

// The same for the bytes of N blocks, `period` to a block and row (24 where colours are
// interleaved): out[p * N + block] = in[block * period + p]. Interleaving the halves moves the
// highest bit of the index to the bottom: log2(N) times.
template <int period, int N>
FREQOPS_INLINE void bytes_to_lanes(const uint8_t* in, uint8_t* out) {
  constexpr int count = period * N / 16;
#if defined(__AVX512F__)
  if constexpr (N == 16 && period == kBlock) return bytes_to_lanes_8(in, out);
  if constexpr (N == 16 && period == 3 * kBlock) return bytes_to_lanes_24(in, out);
#endif
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
