// The line protocol, as docs/serial-protocol.md describes it: bytes <-> fields. No heap, no stdio, no clock.
//
// One line is `SEQ VERB fields*CRC` and a line feed, at most 80 bytes. The same in Python:
// drivers/hspc_drivers/serial_protocol.py; a test holds both to the same bytes.
#pragma once

#include <stdint.h>

namespace hspc {

const uint8_t kVersion = 1;
const uint8_t kMaxLine = 80;  // with its line feed
const uint8_t kMaxFields = 5; // of a line to the device
const uint16_t kUnasked = 0;  // the number of what the device says by itself

// CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF, not reflected; 0x29B1 for "123456789".
uint16_t crc16(const char* data, uint8_t length);

enum class Verb : uint8_t { kNone, kHello, kPing, kArm, kDisarm, kFire, kAsk };
enum class Fault : uint8_t { kNone, kGarbled, kUnknown, kSyntax };

// One line to the device, read. `seq` is kUnasked where not even that can be believed.
struct Request {
  Fault fault;
  uint16_t seq;
  Verb verb;
  uint32_t fields[kMaxFields];
};

// Reads one line, without its line feed.
Request read_line(const char* line, uint8_t length);

// Gathers bytes into lines.
class LineReader {
 public:
  // Takes one byte; true when a line is complete: read it before the next byte comes. Empty lines are nothing.
  bool take(char byte);
  Request request() const;

 private:
  char line_[kMaxLine];
  uint8_t length_ = 0;  // stops at kMaxLine: a line that grows too long is garbled, up to its line feed
  uint8_t complete_ = 0;
};

// Spells one line to the host.
class LineWriter {
 public:
  LineWriter(uint16_t seq, const char* verb);
  LineWriter& number(uint32_t value);
  LineWriter& word(const char* text);
  // Closes the line with checksum and line feed.
  const char* finish();
  uint8_t length() const { return length_; }

 private:
  void put(char c);
  void hex4(uint16_t value);
  char line_[kMaxLine];
  uint8_t length_ = 0;
};

}  // namespace hspc
