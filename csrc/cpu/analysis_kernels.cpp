// Analysis: pixels -> two one-dimensional DCTs -> chosen channels, some tiles at a time.
#include <cstring>

#include "half_way.h"
#include "isa.h"

namespace freqops::cpu {
namespace {

// Tiles whose results are written together: two cache lines of floats to a channel, since the
// planes of the channels lie pages apart.
constexpr int kGroup = 2 * kLine / kVectorBytes;
static_assert(kGroup * kLanes<float> == kItemBlocks<float>, "a group is an item");

// How the results of a group reach memory.
enum class Write {
  kWhole,         // whole vectors
  kPastCaches,    // whole aligned cache lines of a result larger than the caches
  kSome,          // the end of a picture
  kChannelsLast,  // through `staged`
};

template <Write write, class T, class acc>
struct Output {
  const Analysis<acc>& p;
  T* first;  // channel 0 of the group's first block
  int count;
  Vec<acc> (*staged)[kGroup];  // [channels]

  FREQOPS_INLINE void operator()(int channel, const Vec<acc> (&x)[kGroup]) const {
    if constexpr (write == Write::kWhole) {
      T* to = first + channel * p.out.stride_c;
      for (int g = 0; g < kGroup; ++g) store<acc>(to + g * kLanes<acc>, x[g]);
    } else if constexpr (write == Write::kPastCaches) {
      store_lines_past_caches<acc>(first + channel * p.out.stride_c, x);
    } else if constexpr (write == Write::kSome) {
      T* to = first + channel * p.out.stride_c;
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
      const int channels = int(p.out.channels);
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

// Outputs 0 ... kept - 1 of the second transform of a line, to every kGroup-th vector.
template <int kept, class acc>
__attribute__((noinline)) void transform_line(const Vec<acc>* line, Vec<acc>* out) {
  Vec<acc> x[kBlock];
  for (int i = 0; i < kBlock; ++i) x[i] = line[i];
  dct8<acc>(x);
  for (int i = 0; i < kept; ++i) out[i * kGroup] = x[i];
}

template <bool jpeg, class acc, class Out>
void write_line(const Analysis<acc>& p, int begin, int end, const Vec<acc> (&in)[kBlock][kGroup],
                const Out& out) {
  for (int i = begin; i < end; ++i) {
    const AnalysisEntry<acc>& e = p.entries[i];
    Vec<acc> x[kGroup];
    for (int g = 0; g < kGroup; ++g) {
      x[g] = in[e.at][g];
      if (jpeg) x[g] = round_even<acc>(x[g] * e.dct_scale);
      x[g] = x[g] * e.scale + e.offset;
    }
    out(e.channel, x);
  }
}

template <class acc, class Out>
__attribute__((noinline)) void transform_group(const Analysis<acc>& p,
                                               const Planes<acc> (&half)[kGroup], const Out& out) {
  Vec<acc> outputs[kBlock][kGroup];
  for (int k = 0; k < kComponents; ++k) {
    for (int line = 0; line < p.lines[k]; ++line) {
      const int begin = p.first[k * kBlock + line], end = p.first[k * kBlock + line + 1];
      if (begin == end) continue;
      with_count(p.outputs[k][line], [&](auto kept) {
        for (int g = 0; g < kGroup; ++g)
          transform_line<kept, acc>(half[g][k] + line * kBlock, &outputs[0][g]);
      });
      if (p.jpeg)
        write_line<true>(p, begin, end, outputs, out);
      else
        write_line<false>(p, begin, end, outputs, out);
    }
  }
  out.finish(p.stream);
}

template <class T, class acc>
void run(const Analysis<acc>& p, int64_t begin, int64_t end) {
  constexpr int N = kLanes<acc>, blocks = kGroup * N;
  alignas(64) Planes<acc> half[kGroup] = {};  // what no tile fills is never written
  Vec<acc> staged[kChannels][kGroup];
  if (p.channels_last && p.first[kComponents * kBlock] < p.out.channels)
    std::memset(staged, 0, sizeof(staged));  // channels without an entry
  const int64_t grid = p.grid_h * p.grid_w;
  constexpr bool whole_lines = blocks * sizeof(T) % kLine == 0;
  const bool past_caches =
      whole_lines && p.stream && !p.channels_last && p.out.stride_c * sizeof(T) % kLine == 0;
  for (int64_t i = begin; i < end; ++i) {
    const Group group = group_at(i, grid, blocks);
    for (int g = 0; g * N < group.count; ++g)
      half_way_any(p, tile_in<acc>(group, g, p.grid_w), half[g]);
    T* first = static_cast<T*>(p.out.data) + group.n * p.out.stride_n +
               group.block * (p.channels_last ? p.out.channels : 1);
    const auto write = [&](auto out) { transform_group(p, half, out); };
    if (p.channels_last)
      write(Output<Write::kChannelsLast, T, acc>{p, first, group.count, staged});
    else if (group.count < blocks)
      write(Output<Write::kSome, T, acc>{p, first, group.count, staged});
    else if (past_caches && reinterpret_cast<uintptr_t>(first) % kLine == 0)
      write(Output<whole_lines ? Write::kPastCaches : Write::kWhole, T, acc>{p, first, group.count,
                                                                             staged});
    else
      write(Output<Write::kWhole, T, acc>{p, first, group.count, staged});
  }
  if (p.stream) order_stores();
}

template <class acc>
void analyse(const Analysis<acc>& p, int64_t begin, int64_t end) {
  switch (p.out.type) {
    case Type::kHalf: return run<Half>(p, begin, end);
    case Type::kBfloat16: return run<BFloat16>(p, begin, end);
    case Type::kFloat: return run<float>(p, begin, end);
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return run<double>(p, begin, end);
      return;
    case Type::kUint8: return;  // coefficients have no such type
  }
}

template <class acc>
int64_t items(const Analysis<acc>& p) {
  return p.in.batch * groups(p.grid_h * p.grid_w, kGroup * kLanes<acc>);
}

}  // namespace

void FREQOPS_ISA::analysis(const Analysis<float>& p, int64_t begin, int64_t end) {
  analyse(p, begin, end);
}
void FREQOPS_ISA::analysis(const Analysis<double>& p, int64_t begin, int64_t end) {
  analyse(p, begin, end);
}
int64_t FREQOPS_ISA::analysis_items(const Analysis<float>& p) { return items(p); }
int64_t FREQOPS_ISA::analysis_items(const Analysis<double>& p) { return items(p); }

}  // namespace freqops::cpu
