// Vectors over the GCC and Clang extension: one source for AVX-512, AVX2 and 16-byte vectors.
// Included by *_kernels.cpp alone; all names are internal to the file (isa.h says why).
#pragma once

#include <cstdint>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace freqops::cpu {
namespace {

#define FREQOPS_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
#if !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "AVX-512 kernels need BW, DQ and VL"
#endif
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};

// Lanes of a vector of sums: the blocks that a kernel treats at once.
template <class acc>
constexpr int kLanes = kVectorBytes / int(sizeof(acc));

template <class acc>
using Vec = typename VectorOf<acc, kLanes<acc>>::type;

typedef uint8_t Bytes __attribute__((vector_size(16)));

constexpr int kLine = 64;  // bytes of a cache line

// The 24 rows of a tile of pixels, and as many channels as there are, are more streams than the
// hardware follows. Beyond the end of a tensor is no fault.
template <int bytes, int written = 0, int locality = 3>
FREQOPS_INLINE void prefetch(const void* from) {
  for (int i = 0; i < bytes; i += kLine)
    __builtin_prefetch(static_cast<const char*>(from) + i, written, locality);
}

template <class V>
FREQOPS_INLINE V load_vector(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof(V));
  return v;
}

template <class V>
FREQOPS_INLINE void store_vector(void* to, V v) {
  __builtin_memcpy(to, &v, sizeof(V));
}

template <class V>
struct Element {
  using type = std::remove_reference_t<decltype(std::declval<V&>()[0])>;
  static constexpr int lanes = int(sizeof(V) / sizeof(type));
};

// Elements I... of a followed by b.
template <class V, int... I>
FREQOPS_INLINE V pick(V a, V b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, I...);
#else
  using scalar = typename Element<V>::type;
  using index = std::conditional_t<
      sizeof(scalar) == 8, int64_t,
      std::conditional_t<sizeof(scalar) == 4, int32_t,
                         std::conditional_t<sizeof(scalar) == 2, int16_t, int8_t>>>;
  typedef index Index __attribute__((vector_size(sizeof(V))));
  return __builtin_shuffle(a, b, Index{I...});
#endif
}

template <int offset, int... I>
constexpr auto stride_two(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (2 * I + offset)...>();
}
// lane I of the result alternates between a and b: first / 2, first / 2 + lanes, first / 2 + 1, ...
template <int first, int lanes, int... I>
constexpr auto alternate(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (first + I / 2 + (I % 2) * lanes)...>();
}

template <class V>
FREQOPS_INLINE V even(V a, V b) {
  return pick(a, b, stride_two<0>(std::make_integer_sequence<int, Element<V>::lanes>()));
}
template <class V>
FREQOPS_INLINE V odd(V a, V b) {
  return pick(a, b, stride_two<1>(std::make_integer_sequence<int, Element<V>::lanes>()));
}
template <class V>
FREQOPS_INLINE V zip_low(V a, V b) {
  constexpr int n = Element<V>::lanes;
  return pick(a, b, alternate<0, n>(std::make_integer_sequence<int, n>()));
}
template <class V>
FREQOPS_INLINE V zip_high(V a, V b) {
  constexpr int n = Element<V>::lanes;
  return pick(a, b, alternate<n / 2, n>(std::make_integer_sequence<int, n>()));
}

// Round half to even. Beyond 2^23 (2^52) every value is an integer; NaN stays.
template <class acc>
FREQOPS_INLINE Vec<acc> round_even(Vec<acc> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(acc) == 4)
    return (Vec<acc>)_mm512_maskz_roundscale_ps(0xffff, (__m512)x, _MM_FROUND_TO_NEAREST_INT);
  else
    return (Vec<acc>)_mm512_maskz_roundscale_pd(0xff, (__m512d)x, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__AVX2__)
  if constexpr (sizeof(acc) == 4)
    return (Vec<acc>)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  else
    return (Vec<acc>)_mm256_round_pd((__m256d)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const acc whole = sizeof(acc) == 4 ? acc(8388608.0) : acc(4503599627370496.0);
  const Vec<acc> magnitude = x < 0 ? -x : x;
  const Vec<acc> rounded = (magnitude + whole) - whole;
  const Vec<acc> small = x < 0 ? -rounded : rounded;
  return magnitude < whole ? small : x;
#endif
}

}  // namespace
}  // namespace freqops::cpu
