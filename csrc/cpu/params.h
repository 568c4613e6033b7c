// The parameters of the CPU kernels, filled by prepare.cpp.
#pragma once

#include <cstdint>
#include <numeric>

#include "../plan.h"

namespace freqops::cpu {

// Output channel `channel` of one coefficient, whose DCT comes without its scale (math/dct8.h):
//   out = x * scale + offset;  with rounding  out = rint(x * dct_scale) * scale + offset
template <class acc>
struct AnalysisEntry {
  acc scale, offset, dct_scale;
  int channel;
};

template <class acc>
struct Analysis {
  View in;   // pictures [n, 3, height, width]
  View out;  // coefficients [n, channels, grid_h, grid_w], contiguous or channels_last
  int64_t grid_h, grid_w;
  Edge edge;
  Chroma chroma;
  bool jpeg;           // rounding of planes and coefficients
  bool channels_last;  // of out
  bool stream;         // out is written past the caches
  acc white;           // factor of the pixels before the matrix, used where jpeg
  acc matrix[3][3];    // planes from colours
  acc shift;           // added to the first plane
  int rows[3];         // of a component: 1 + the largest v that is chosen, 0 for none
  int columns[3][8];   // of a component's row v: 1 + the largest u that is chosen, 0 for none
  uint8_t first[kChannels + 1];  // entries[first[k]] to entries[first[k + 1] - 1] belong to k
  AnalysisEntry<acc> entries[kChannels];
};

// The coefficient gains in[channel] * scale.
template <class acc>
struct SynthesisEntry {
  acc scale;
  int channel;
};

template <class acc>
struct Synthesis {
  View in;   // coefficients [n, channels, grid_h, grid_w], any strides
  View out;  // pictures [n, 3, height, width], contiguous
  Chroma chroma;
  bool fold;    // pixels beyond the right and bottom edge are added to the last ones, not dropped
  bool stream;  // out is written past the caches
  acc matrix[3][3];  // colours from planes
  acc shift;         // added to each colour
  int rows[3];       // of a component: 1 + the largest v that is not zero, 0 for none
  int columns[3];    // 1 + the largest u that is not zero
  acc bias[kChannels];
  uint8_t first[kChannels + 1];
  SynthesisEntry<acc> entries[kChannels];
};

// Features times their gates: gumbel_gate on x, gumbel_gate_backward on grad_y, with the sums over
// pixels of grad_y x on the way.
template <class acc>
struct Gating {
  Features features;
  const void* in;
  const void* beside;  // x, where sums are wanted
  void* out;           // in * gate, or null
  bool stream;         // out is written past the caches
  const acc* gates;    // [N, C]; out is 0 where a gate is, whatever in holds
  acc* sums;           // [N, C, chunks], channels_last [N, chunks, C]: of in * beside over a chunk
};

// An item of the gate: so many elements or a little less, in one plane or in whole rows of channels.
constexpr int64_t kGateChunk = 16384;

// A multiple of 32 pixels, so that each chunk of 2 or 4 byte elements begins with a cache line.
inline int64_t chunk_pixels(const Features& f) {
  if (!f.channels_last) return kGateChunk;
  const int64_t pixels = kGateChunk / f.channels;
  return pixels >= 32 ? pixels / 32 * 32 : 32;
}

inline int64_t chunks(const Features& f) {
  return (f.pixels + chunk_pixels(f) - 1) / chunk_pixels(f);
}

// Gates and sums of channels_last features repeat with the channels. They are laid out so often that
// a whole number of cache lines of features goes into a period: then a line's gates are neighbours.
inline int64_t gate_period(const Features& f) {
  constexpr int64_t kLineElements[] = {64, 32, 32, 16, 8};  // by Type
  return std::lcm(f.channels, kLineElements[int(f.type)]);
}

// Elements of scratch memory that a thread needs for its items: none for planes.
inline int64_t gate_scratch(const Features& f) { return f.channels_last ? 2 * gate_period(f) : 0; }

// The kernels of one instruction set. Work is counted in items: analysis_items() of them make up
// the whole result, and any split of them between threads gives the same bits.
template <class acc>
struct Kernels {
  void (*analysis)(const Analysis<acc>&, int64_t begin, int64_t end);
  int64_t (*analysis_items)(const Analysis<acc>&);
  void (*synthesis)(const Synthesis<acc>&, int64_t begin, int64_t end);
  int64_t (*synthesis_items)(const Synthesis<acc>&);
  void (*gating)(const Gating<acc>&, acc* scratch, int64_t begin, int64_t end);
};

}  // namespace freqops::cpu
