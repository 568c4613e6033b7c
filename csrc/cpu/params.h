// The parameters of the CPU kernels, filled by prepare.cpp.
#pragma once

#include <cstdint>

#include "../axis_map.h"
#include "../math/mean_block.h"
#include "../plan.h"

namespace freqops::cpu {

// Output channel `channel` of one coefficient, whose DCT comes without its scale (math/dct8.h):
//   out = x * scale + offset;  with rounding  out = rint(x * dct_scale) * scale + offset
template <class acc>
struct AnalysisEntry {
  acc scale, offset, dct_scale;
  int channel;
  int at;  // which output of the second transform
};

// The two-dimensional DCT is two of one dimension. Pixels of floating point are first transformed
// down the columns, as they lie in memory, and bytes along the rows, as integers. What the first
// transform gives of a component, its row v or column u, is a line; the second transforms lines.
template <class acc>
struct Analysis {
  View in;   // pictures [n, 3, height, width]
  View out;  // coefficients [n, channels, grid_h, grid_w], contiguous or channels_last
  int64_t grid_h, grid_w;
  Edge edge;
  Chroma chroma;
  bool jpeg;                         // rounding of planes and coefficients
  bool columns_first;                // lines are rows v; otherwise columns u
  bool channels_last;                // of out
  bool stream;                       // out is written past the caches
  acc white;                         // factor of the pixels before the matrix, used where jpeg
  acc matrix[3][3];                  // planes from colours
  acc shift;                         // added to the first plane
  int lines[kComponents];            // 1 + the largest that is chosen, 0 for none
  int outputs[kComponents][kBlock];  // of a line: 1 + the largest that is chosen, 0 for none
  // entries[first[i]] to entries[first[i + 1] - 1] are those of line i % 8 of component i / 8
  uint8_t first[kComponents * kBlock + 1];
  AnalysisEntry<acc> entries[kChannels];
};

// Blocks of an item of the analysis kernels, consecutive ones of a picture: two cache lines of sums to
// a channel.
template <class acc>
constexpr int kItemBlocks = 128 / int(sizeof(acc));

// Column `column` of a row of coefficients gains in[channel] * scale.
template <class acc>
struct SynthesisEntry {
  acc scale;
  int channel, column;
};

template <class acc>
struct Synthesis {
  View in;   // coefficients [n, channels, grid_h, grid_w], any strides
  View out;  // pictures [n, 3, height, width], contiguous
  Chroma chroma;
  bool fold;    // pixels beyond the right and bottom edge are added to the last ones, not dropped
  bool stream;  // out is written past the caches, where a vector fills a line of them
  acc matrix[3][3];          // colours from planes
  acc shift;                 // added to each colour
  int rows[kComponents];     // 1 + the largest v that is not zero, 0 for none
  int columns[kComponents];  // 1 + the largest u that is not zero
  acc bias[kChannels];
  // entries[first[i]] to entries[first[i + 1] - 1] are those of row i % 8 of component i / 8
  uint8_t first[kComponents * kBlock + 1];
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
  int64_t chunk;       // pixels of an item, in one plane or of all channels
  int64_t chunks;      // of a plane or picture
  int64_t period;      // channels_last: of gates and sums, see gumbel_gate.cpp
  const acc* gates;    // [N, C]; out is 0 where a gate is, whatever in holds
  acc* sums;           // [N, C, chunks], channels_last [N, chunks, C]: of in * beside over a chunk
};

// Sums of pixels over the blocks of a band of block rows, from which block_dct_mean follows. Rows 0 ... 7
// of `sums` are those of a block, 8 the picture's first row, 9 its last; in the first and the last band.
// Columns 0 ... 7 are those of a block, 8 the picture's first column, 9 its last. Pixels beyond the
// right and bottom edge are the last ones again.
struct PixelSums {
  View in;  // pictures [n, 3, height, width], any strides
  int64_t grid_h, grid_w;
  int64_t band,
      bands;   // block rows of a band, but for the last, and bands of a picture: an item each
  bool frame;  // rows 8 and 9 are wanted, else zero
  double (*sums)[kComponents][kMeanPlaces][kMeanPlaces];  // [n, bands]
};

// Zeros in runs of `bytes`, `step` bytes apart: run i where closed[i] is true.
struct Clearing {
  char* first;
  int64_t bytes, step, count;
  const bool* closed;
  bool stream;  // past the caches
};

// A coefficient of jpeg_gather's result.
struct GatherEntry {
  float scale, offset;  // out = x * scale + offset
  uint8_t channel, u;
};

// A component of jpeg_gather, as gather.h has it.
struct GatherComponent {
  const int16_t* blocks;  // [n, y, x, 64], or null: all zero
  int64_t stride_n, stride_y, stride_x;
  const int32_t* steps;  // [64] of a picture, stride_steps apart, or null
  int64_t stride_steps;
  AxisView down, across;
  int rows;  // 1 + the largest v that is chosen, 0 for none
};

// jpeg_gather: blocks to chosen channels.
struct Gather {
  GatherComponent components[kComponents];
  View out;  // [n, C, rows, columns], contiguous or channels_last
  bool channels_last;
  // entries[first[i]] to entries[first[i + 1] - 1] are those of row i % 8 of component i / 8
  uint8_t first[kComponents * kBlock + 1];
  GatherEntry entries[kChannels];
};

// The kernels of one instruction set. Work is counted in items: analysis_items() of them make up
// the whole result, and any split of them between threads gives the same bits.
template <class acc>
struct Kernels {
  void (*analysis)(const Analysis<acc>&, int64_t begin, int64_t end);
  int64_t (*analysis_items)(const Analysis<acc>&);
  void (*synthesis)(const Synthesis<acc>&, int64_t begin, int64_t end);
  int64_t (*synthesis_items)(const Synthesis<acc>&);
  // scratch: 2 period elements where channels_last
  void (*gating)(const Gating<acc>&, acc* scratch, int64_t begin, int64_t end);
  void (*pixel_sums)(const PixelSums&, int64_t begin, int64_t end);
  void (*clear)(const Clearing&);
  void (*gather)(const Gather&, int64_t begin, int64_t end);
  int64_t (*gather_items)(const Gather&);
};

}  // namespace freqops::cpu
