// Storage types and vectors of sums. Half and bfloat16 are storage only.
#pragma once

#include "simd.h"

namespace freqops::cpu {
namespace {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

FREQOPS_INLINE float float_of(uint32_t bits) {
  float out;
  __builtin_memcpy(&out, &bits, 4);
  return out;
}
FREQOPS_INLINE uint32_t bits_of(float x) {
  uint32_t out;
  __builtin_memcpy(&out, &x, 4);
  return out;
}

FREQOPS_INLINE float widen(uint8_t x) { return x; }
FREQOPS_INLINE float widen(float x) { return x; }
FREQOPS_INLINE double widen(double x) { return x; }
FREQOPS_INLINE float widen(BFloat16 x) { return float_of(uint32_t(x.bits) << 16); }
// Exponent and mantissa shifted into place are x * 2^-112, subnormals included; infinity and NaN
// keep a full exponent.
FREQOPS_INLINE float widen(Half x) {
  const uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16;
  const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
  return float_of(sign | (magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : finite));
}

// Round half to even, as everywhere below.
FREQOPS_INLINE void narrow(float x, BFloat16* out) {
  const uint32_t bits = bits_of(x);
  out->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
// Adding 2^(e + 13), where e is x's exponent (at least -14), rounds x to half's 11 bits.
FREQOPS_INLINE void narrow(float x, Half* out) {
  const uint32_t sign = (bits_of(x) >> 16) & 0x8000;
  const uint32_t magnitude = bits_of(x) & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;
  } else if (magnitude >= 0x477ff000) {  // 65520 and above round to infinity
    half = 0x7c00;
  } else if (magnitude >= 0x38800000) {  // 2^-14 and above: normal
    half = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
  } else {  // in units of 2^-24: the lowest bits of 0.5 + x
    half = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
  }
  out->bits = uint16_t(sign | half);
}
FREQOPS_INLINE void narrow(double x, Half* out) { narrow(float(x), out); }
FREQOPS_INLINE void narrow(double x, BFloat16* out) { narrow(float(x), out); }
FREQOPS_INLINE void narrow(float x, float* out) { *out = x; }
FREQOPS_INLINE void narrow(double x, float* out) { *out = float(x); }
FREQOPS_INLINE void narrow(double x, double* out) { *out = x; }

// Vectors of `lanes` elements, whatever their size.
template <int lanes>
using Bits16 = typename VectorOf<uint16_t, lanes>::type;
template <int lanes>
using Bits32 = typename VectorOf<uint32_t, lanes>::type;
template <int lanes>
using Floats = typename VectorOf<float, lanes>::type;

// The next kLanes<acc> elements.
template <class acc, class T>
FREQOPS_INLINE Vec<acc> load(const T* from) {
  if constexpr (sizeof(T) == sizeof(acc)) {
    return load_vector<Vec<acc>>(from);
  } else {
#if defined(__AVX512F__)
    if constexpr (sizeof(acc) == 4 && std::is_same_v<T, uint8_t>)
      return (Vec<acc>)_mm512_maskz_cvtepi32_ps(
          0xffff, _mm512_maskz_cvtepu8_epi32(0xffff, load_vector<__m128i>(from)));
    if constexpr (sizeof(acc) == 4 && std::is_same_v<T, Half>)
      return (Vec<acc>)_mm512_maskz_cvtph_ps(0xffff, load_vector<__m256i>(from));
#elif defined(__AVX2__)
    if constexpr (sizeof(acc) == 4 && std::is_same_v<T, uint8_t>)
      return (Vec<acc>)_mm256_cvtepi32_ps(
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
    if constexpr (sizeof(acc) == 4 && std::is_same_v<T, Half>)
      return (Vec<acc>)_mm256_cvtph_ps(load_vector<__m128i>(from));
#endif
    if constexpr (std::is_same_v<T, BFloat16>) {
      const Bits32<kLanes<acc>> bits =
          __builtin_convertvector(load_vector<Bits16<kLanes<acc>>>(from), Bits32<kLanes<acc>>);
      return __builtin_convertvector((Floats<kLanes<acc>>)(bits << 16), Vec<acc>);
    }
    acc out[kLanes<acc>];
    for (int i = 0; i < kLanes<acc>; ++i) out[i] = acc(widen(from[i]));
    return load_vector<Vec<acc>>(out);
  }
}

template <class acc, class T>
FREQOPS_INLINE void store(T* to, Vec<acc> x) {
  if constexpr (std::is_same_v<T, acc>) {
    store_vector(to, x);
  } else if constexpr (std::is_same_v<T, uint8_t>) {
    // Comparisons with NaN are false: it becomes 0.
    const Vec<acc> zero = {};
    const Vec<acc> positive = x > zero ? x : zero;
    const Vec<acc> clamped = positive < acc(255) ? positive : zero + acc(255);
    const Vec<acc> rounded = round_even<acc>(clamped);
#if defined(__AVX512F__)
    if constexpr (sizeof(acc) == 4) {
      store_vector(to, _mm512_maskz_cvtepi32_epi8(
                           0xffff, _mm512_maskz_cvtps_epi32(0xffff, (__m512)rounded)));
      return;
    }
#endif
    for (int i = 0; i < kLanes<acc>; ++i) to[i] = uint8_t(int(rounded[i]));
  } else {
#if defined(__AVX512F__)
    if constexpr (sizeof(acc) == 4 && std::is_same_v<T, Half>) {
      store_vector(to, _mm512_maskz_cvtps_ph(0xffff, (__m512)x, _MM_FROUND_TO_NEAREST_INT));
      return;
    }
#elif defined(__AVX2__)
    if constexpr (sizeof(acc) == 4 && std::is_same_v<T, Half>) {
      store_vector(to, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
      return;
    }
#endif
    if constexpr (std::is_same_v<T, BFloat16>) {  // as narrow
      const Floats<kLanes<acc>> single = __builtin_convertvector(x, Floats<kLanes<acc>>);
      const Bits32<kLanes<acc>> bits = (Bits32<kLanes<acc>>)single;
      const Bits32<kLanes<acc>> rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
      const Bits32<kLanes<acc>> chosen = single == single ? rounded : (rounded & 0) + 0x7fc0;
      store_vector(to, __builtin_convertvector(chosen, Bits16<kLanes<acc>>));
      return;
    }
    acc in[kLanes<acc>];
    store_vector(in, x);
    for (int i = 0; i < kLanes<acc>; ++i) narrow(in[i], to + i);
  }
}

// A vector of results fills a cache line.
template <class T, class acc>
constexpr bool is_line = std::is_same_v<T, acc> && kVectorBytes == kLine;

// Writes an aligned cache line to memory without reading it first, and leaves the caches alone.
template <class T, class V>
FREQOPS_INLINE void store_past_caches(T* to, V x) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) _mm512_stream_ps(to, (__m512)x);
  if constexpr (std::is_same_v<T, double>) _mm512_stream_pd(to, (__m512d)x);
#endif
  (void)to, (void)x;
}

// A cache line as it lies in memory.
typedef uint8_t Line __attribute__((vector_size(kLine)));

FREQOPS_INLINE void store_line_past_caches(void* to, Line line) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(to), (__m512i)line);
#elif defined(__AVX2__)
  __m256i halves[2];
  __builtin_memcpy(halves, &line, kLine);
  _mm256_stream_si256(static_cast<__m256i*>(to), halves[0]);
  _mm256_stream_si256(static_cast<__m256i*>(to) + 1, halves[1]);
#else
  store_vector(to, line);
#endif
}

// x as T, whole aligned lines.
template <class acc, class T, int count>
FREQOPS_INLINE void store_lines_past_caches(T* to, const Vec<acc> (&x)[count]) {
  if constexpr (is_line<T, acc>) {
    for (int i = 0; i < count; ++i) store_past_caches(to + i * kLanes<acc>, x[i]);
  } else {
    constexpr int size = count * kLanes<acc> * int(sizeof(T));
    static_assert(size % kLine == 0, "whole lines");
    alignas(kLine) T lines[count * kLanes<acc>];
    for (int i = 0; i < count; ++i) store<acc>(lines + i * kLanes<acc>, x[i]);
    for (int i = 0; i < size / kLine; ++i)
      store_line_past_caches(to + i * kLine / sizeof(T),
                             load_vector<Line>(lines + i * kLine / sizeof(T)));
  }
}

// Bytes from an aligned buffer, past the caches where they are whole aligned lines.
FREQOPS_INLINE void copy_run(void* to, const void* from, int64_t bytes, bool past_caches) {
  if (past_caches && bytes % kLine == 0 && reinterpret_cast<uintptr_t>(to) % kLine == 0) {
    for (int64_t i = 0; i < bytes; i += kLine)
      store_line_past_caches(static_cast<char*>(to) + i,
                             load_vector<Line>(static_cast<const char*>(from) + i));
  } else {
    __builtin_memcpy(to, from, bytes);
  }
}

// Before another thread reads them: such stores are not ordered with later ones.
FREQOPS_INLINE void order_stores() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// The first `count` elements; nothing beyond them is touched.
template <class acc, class T>
FREQOPS_INLINE Vec<acc> load_some(const T* from, int count) {
  T some[kLanes<acc>] = {};
  for (int i = 0; i < count; ++i) some[i] = from[i];
  return load<acc>(some);
}
template <class acc, class T>
FREQOPS_INLINE void store_some(T* to, Vec<acc> x, int count) {
  T some[kLanes<acc>];
  store<acc>(some, x);
  for (int i = 0; i < count; ++i) to[i] = some[i];
}

}  // namespace
}  // namespace freqops::cpu
