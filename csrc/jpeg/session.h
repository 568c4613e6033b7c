// One run of libjpeg. All that it calls back lives here: errors, the source, coefficient memory.
//
// libjpeg leaves by longjmp, which skips destructors: no function between setjmp and longjmp holds
// what has one, and ~Session runs in a frame outside of them.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>

// After <cstdio>, which it needs.
#include <jpeglib.h>

#include "read.h"

// libjpeg hands such pointers through without looking inside: its declaration is incomplete. Rows
// point into memory that becomes the result, so the entropy decoder writes into it directly.
struct jvirt_barray_control {
  int16_t* memory;  // [row_count][row_length] blocks
  JBLOCKROW* rows;
  JDIMENSION row_count;
  JDIMENSION row_length;
};

namespace freqops::jpeg {

constexpr int kMaxPlanes = 3;
constexpr size_t kMessage = 2 * JMSG_LENGTH_MAX;  // libjpeg's words and what they mean

// The frame header. A second one between the scans is an error, but libjpeg has written over its
// own copy by then, and where the file ends there the error is tolerated.
struct Frame {
  int components;
  uint32_t height, width;
  bool progressive;
  const char* subsampling;
};

struct Session {
  Session(const uint8_t* data, size_t size, const Options& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Ends the run: longjmp.
  [[noreturn]] void fail(Outcome why);

  jpeg_decompress_struct cinfo;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf leave;

  const Options& options;
  Outcome outcome = Outcome::kRead;
  char reason[kMessage] = "";
  char warning[kMessage] = "";  // the first one, where tolerated
  bool in_headers = true;
  Frame frame = {};    // once in_headers is false
  bool ended = false;  // bytes were asked for beyond the last

  jvirt_barray_control arrays[kMaxPlanes] = {};
  int array_count = 0;
  void (*realize_others)(j_common_ptr) = nullptr;
};

// What runs between setjmp and longjmp. After kRead the arrays hold what was decoded, else
// session->reason says what is wrong.
Outcome decode(Session* session);

// "gray", "4:2:0" and so on; null where the sampling factors make none that is read.
const char* subsampling_name(const jpeg_decompress_struct& cinfo);

}  // namespace freqops::jpeg
