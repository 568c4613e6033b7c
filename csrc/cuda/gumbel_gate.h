// What the kernels of the channel gate are told, and how a picture is shared out among threads. That
// depends on H W, C and types alone, so a picture has the same bits alone and in a batch.
#pragma once

#include <cstdint>

#include "../plan.h"

#if defined(FREQOPS_EMULATED)
#include "cuda_on_host.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace freqops::cuda {

constexpr int kGateThreads = 256;

// Packs, 16 bytes or one element, that a thread has on their way at a time.
constexpr int kAtOnce = 4;

// Packs of a thread in all. Contiguous features go forward without a loop, so elements are more.
// channels_last ones repay reading the gates of a strip. Backward a sum in float32 ends there.
constexpr int kVectorRounds = kAtOnce, kElementRounds = 2 * kAtOnce;
constexpr int kChunkRounds = 2 * kAtOnce;
constexpr int kBackwardRounds = 4 * kAtOnce;

// How a thread takes features: 16 bytes at a time; the same elements one by one, where memory does not
// begin at a multiple of 16 bytes; or one element, where a plane or a pixel is no multiple of that.
enum class Access : uint8_t { kVectors, kUnaligned, kElements };

// Contiguous features, [N C, H W]: a plane in segments, a segment in the hands of `lanes` threads.
struct Segments {
  int64_t planes;     // N C
  int64_t pixels;     // H W
  int64_t count;      // of a plane
  int32_t length;     // pixels of one, the last may have fewer
  int32_t log_lanes;  // log2 of its threads, up to kGateThreads

  int64_t blocks() const {
    const int64_t of_block = kGateThreads >> log_lanes;
    return (planes * count + of_block - 1) / of_block;
  }

  // `width`: elements that a thread takes at a time.
  static Segments of(int64_t planes, int64_t pixels, int width, int rounds) {
    const int64_t vectors = (pixels + width - 1) / width;
    const int64_t most = int64_t(kGateThreads) * rounds;
    const int64_t parts = (vectors + most - 1) / most;
    const int64_t length = (vectors + parts - 1) / parts;
    int32_t log_lanes = 0;
    while (kGateThreads >> log_lanes > 1 && int64_t(kAtOnce) << log_lanes < length) ++log_lanes;
    return {planes, pixels, (vectors + length - 1) / length, int32_t(length * width), log_lanes};
  }
};

// channels_last features, [N, H W, C]: pixels in chunks, channels in strips that a thread block's rows
// span; a thread keeps its channels and walks down the pixels of a chunk.
struct Chunks {
  int64_t pictures, pixels, channels;  // N, H W, C
  int64_t count;                       // of a picture
  int64_t strips;                      // of a pixel
  int32_t length;                      // pixels of a chunk, the last may have fewer
  int32_t columns, rows;               // threads along a strip, pixels side by side in a block

  int64_t blocks() const { return pictures * count * strips; }
  unsigned threads() const { return unsigned(columns * rows + 31) / 32 * 32; }

  static Chunks of(int64_t pictures, int64_t pixels, int64_t channels, int width, int rounds) {
    const int64_t vectors = (channels + width - 1) / width;
    const int64_t strips = (vectors + kGateThreads - 1) / kGateThreads;
    const int64_t columns = (vectors + strips - 1) / strips;
    const int64_t fit = kGateThreads / columns;
    const int64_t rows = fit < pixels ? fit : pixels;
    const int64_t most = rows * rounds;
    const int64_t parts = (pixels + most - 1) / most;
    const int64_t length = (pixels + parts - 1) / parts;
    return {pictures, pixels,          channels,         (pixels + length - 1) / length,
            strips,   int32_t(length), int32_t(columns), int32_t(rows)};
  }
};

// A small tensor, of a type that is read at run time; data is null where there is none.
struct Operand {
  const void* data;
  Type type;
};

struct GateOperands {
  Operand logits;  // [N, C, 2] as [off, on]
  Operand noise;   // [N, C], null is 0
  Operand tau;     // 0-dim, null is 1
  bool hard;
};

// y = x * gate. Also grad_x = grad_y * gate, where no gradient of the logits is wanted.
struct GateParams {
  const void* x;
  void* y;
  Type type;  // of both
  Access access;
  bool channels_last;
  Segments segments;  // where contiguous
  Chunks chunks;      // where channels_last
  GateOperands operands;
  void* gate;           // [N, C] in logits' type, or null
  int64_t first_block;  // of this launch
};

// grad_x, and the sums over pixels that grad_logits are made of.
struct GateBackwardParams {
  const void* grad_y;
  const void* x;
  void* grad_x;  // or null
  Type type;     // of the three
  Access access;
  bool channels_last;
  Segments segments;
  Chunks chunks;
  GateOperands operands;
  Operand grad_gate;  // [N, C], null is 0
  void* grad_logits;  // [N, C, 2] in logits' type
  int64_t planes;     // N C
  int64_t parts;      // segments or chunks
  void* partial;      // [N C, parts] in the type of sums; null where there is one part
  int64_t first_block;

  int64_t finish_blocks() const {
    constexpr int64_t kWarps = kGateThreads / 32;
    return (planes + kWarps - 1) / kWarps;
  }
};

// float kernels serve features of at most 32 bits; float64 kernels take any type and live in a file
// of their own, where spills are allowed.
template <class acc>
cudaError_t launch_gate(const GateParams& params, unsigned blocks, cudaStream_t stream);

template <class acc>
cudaError_t launch_gate_backward(const GateBackwardParams& params, unsigned blocks,
                                 cudaStream_t stream);

// Adds up `partial` where there is more than one part.
template <class acc>
cudaError_t launch_gate_finish(const GateBackwardParams& params, unsigned blocks,
                               cudaStream_t stream);

}  // namespace freqops::cuda
