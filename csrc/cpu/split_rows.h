// Interleaved colours apart.
#pragma once

#include "byte_rows.h"

namespace freqops::cpu {
namespace {

// Colour c of pixel I lies at 3 I + c of the vectors a, b, d.
template <int c, class V, int... I>
FREQOPS_INLINE V every_third(V a, V b, V d, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  const V first = pick(a, b, std::integer_sequence<int, (3 * I + c < 2 * n ? 3 * I + c : 0)...>());
  return pick(first, d, std::integer_sequence<int, (3 * I + c < 2 * n ? I : 3 * I + c - n)...>());
}

// The same registers as in memory to a register of each colour.
template <class V>
FREQOPS_INLINE void split_vectors(const void* from, V (&out)[kComponents]) {
  constexpr auto lanes = std::make_integer_sequence<int, Element<V>::lanes>();
  const char* at = static_cast<const char*>(from);
  const V a = load_vector<V>(at), b = load_vector<V>(at + sizeof(V)),
          d = load_vector<V>(at + 2 * sizeof(V));
  out[0] = every_third<0>(a, b, d, lanes);
  out[1] = every_third<1>(a, b, d, lanes);
  out[2] = every_third<2>(a, b, d, lanes);
}

// An element as bits.
template <int size>
struct Bits;
template <>
struct Bits<1> {
  using type = uint8_t;
};
template <>
struct Bits<2> {
  using type = int16_t;
};
template <>
struct Bits<4> {
  using type = int32_t;
};
template <>
struct Bits<8> {
  using type = int64_t;
};

// Rows of interleaved colours, as rows of each colour.
template <class acc, class T>
__attribute__((noinline)) void split_rows(Staged<acc, T>& staged, Rows<T>* rows) {
  constexpr int width = kBlock * kLanes<acc>, lanes = kVectorBytes / int(sizeof(T));
  static_assert(width % lanes == 0, "whole registers");
  using V = typename VectorOf<typename Bits<sizeof(T)>::type, lanes>::type;
  for (int y = -rows->frame; y < kBlock + rows->frame; ++y) {
    const T* from = rows->row(0, y);
    for (int x = 0; x < width; x += lanes) {
      V colours[kComponents];
#if defined(__AVX2__)
      if constexpr (sizeof(T) == 1) {
        Int8s parts[kComponents];
        split_colours<kAsTheyAre>(from + kComponents * x, parts);
        for (int c = 0; c < kComponents; ++c) colours[c] = (V)parts[c];
      } else
#endif
        split_vectors(from + kComponents * x, colours);
      for (int c = 0; c < kComponents; ++c)
        store_vector(staged + (c * kRows + y + 1) * width + x, colours[c]);
    }
    for (int c = 0; c < kComponents; ++c) rows->set(c, y, staged + (c * kRows + y + 1) * width);
  }
  rows->interleaved = false;
}

}  // namespace
}  // namespace freqops::cpu
