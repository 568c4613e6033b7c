// How results reach memory: some tiles at a time, channel by channel.
#pragma once

#include "convert.h"
#include "tile.h"
#include "transpose.h"

namespace freqops::cpu {
namespace {

// Tiles whose results are written together: two cache lines of floats to a channel, since the
// planes of the channels lie pages apart.
constexpr int kGroup = 2 * kLine / kVectorBytes;

// How the results of a group reach memory.
enum class Write {
  kWhole,         // whole vectors
  kFetching,      // whole vectors; the next group's lines, pages apart, are asked for meanwhile
  kPastCaches,    // whole aligned cache lines of a result larger than the caches
  kSome,          // the end of a picture
  kChannelsLast,  // through `staged`
};

template <Write write, class T, class acc>
struct Output {
  const View& out;  // [n, C, rows, columns], contiguous or channels_last
  T* first;         // channel 0 of the group's first block
  int count;
  Vec<acc> (*staged)[kGroup];  // [channels]

  FREQOPS_INLINE void operator()(int channel, const Vec<acc> (&x)[kGroup]) const {
    if constexpr (write == Write::kWhole || write == Write::kFetching) {
      T* to = first + channel * out.stride_c;
      constexpr int run = kGroup * kLanes<acc>, bytes = run * int(sizeof(T));
      if constexpr (write == Write::kFetching) prefetch<bytes, 1>(to + run);
      for (int g = 0; g < kGroup; ++g) store<acc>(to + g * kLanes<acc>, x[g]);
    } else if constexpr (write == Write::kPastCaches) {
      store_lines_past_caches<acc>(first + channel * out.stride_c, x);
    } else if constexpr (write == Write::kSome) {
      T* to = first + channel * out.stride_c;
      for (int g = 0, left = count; left > 0; ++g, to += kLanes<acc>, left -= kLanes<acc>) {
        if (left >= kLanes<acc>)
          store<acc>(to, x[g]);
        else
          store_some<acc>(to, x[g], left);
      }
    } else {
      for (int g = 0; g < kGroup; ++g) staged[channel][g] = x[g];
    }
  }

  // From lane = block to lane = channel. The results of a tile are one run of memory.
  void finish(bool past_caches) const {
    if constexpr (write == Write::kChannelsLast) {
      constexpr int N = kLanes<acc>;
      const int channels = int(out.channels);
      for (int g = 0; g * N < count; ++g) {
        alignas(kLine) T run[N * kChannels];
        for (int channel = 0; channel < channels; channel += N) {
          const int some = int(smaller(channels - channel, N));
          Vec<acc> x[N] = {};
          for (int i = 0; i < some; ++i) x[i] = staged[channel + i][g];
          transpose(x);
          for (int lane = 0; lane < N; ++lane) {
            T* to = run + lane * channels + channel;
            if (some == N)
              store<acc>(to, x[lane]);
            else
              store_some<acc>(to, x[lane], some);
          }
        }
        T* to = first + int64_t(g) * N * channels;
        copy_run(to, run, smaller(count - g * N, N) * channels * sizeof(T), past_caches);
      }
    }
  }
};

// Writes a group's results: results(output) calls output(channel, vectors) for each channel. What is
// not written past the caches or in part is written as `plain` says, kWhole or kFetching.
template <class T, class acc, Write plain, class Results>
void write_group(const View& out, bool channels_last, bool stream, const Group& group,
                 Vec<acc> (&staged)[kChannels][kGroup], const Results& results) {
  constexpr int blocks = kGroup * kLanes<acc>;
  constexpr bool whole_lines = blocks * sizeof(T) % kLine == 0;
  T* first = static_cast<T*>(out.data) + group.n * out.stride_n +
             group.block * (channels_last ? out.channels : 1);
  const auto write = [&](auto output) {
    results(output);
    output.finish(stream);
  };
  if (channels_last)
    write(Output<Write::kChannelsLast, T, acc>{out, first, group.count, staged});
  else if (group.count < blocks)
    write(Output<Write::kSome, T, acc>{out, first, group.count, staged});
  else if (whole_lines && stream && out.stride_c * sizeof(T) % kLine == 0 &&
           reinterpret_cast<uintptr_t>(first) % kLine == 0)
    write(
        Output<whole_lines ? Write::kPastCaches : plain, T, acc>{out, first, group.count, staged});
  else
    write(Output<plain, T, acc>{out, first, group.count, staged});
}

}  // namespace
}  // namespace freqops::cpu
