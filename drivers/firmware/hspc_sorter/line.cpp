#include "line.h"

#include <string.h>

namespace hspc {

namespace {

struct Layout {
  const char* name;
  Verb verb;
  uint8_t fields;
  uint8_t bytes;  // bit k: field k is one byte, else it has 32 bits
};

const Layout kLayouts[] = {
    {"HELLO", Verb::kHello, 2, 0x01}, {"PING", Verb::kPing, 0, 0}, {"ARM", Verb::kArm, 0, 0},
    {"DISARM", Verb::kDisarm, 0, 0},  {"FIRE", Verb::kFire, 5, 0x02}, {"ASK", Verb::kAsk, 1, 0},
};

// Exactly four digits of upper-case hexadecimal.
bool read_hex4(const char* text, uint16_t* value) {
  uint16_t sum = 0;
  for (uint8_t i = 0; i < 4; ++i) {
    const char c = text[i];
    uint8_t digit;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint8_t>(c - '0');
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint8_t>(c - 'A' + 10);
    } else {
      return false;
    }
    sum = static_cast<uint16_t>((sum << 4) | digit);
  }
  *value = sum;
  return true;
}

// A decimal number up to `most`, without sign or leading zeros.
bool read_number(const char* text, uint8_t length, uint32_t most, uint32_t* value) {
  if (length == 0 || length > 10 || (length > 1 && text[0] == '0')) return false;
  uint32_t sum = 0;
  for (uint8_t i = 0; i < length; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    const uint32_t digit = static_cast<uint32_t>(text[i] - '0');
    if (sum > (0xFFFFFFFFu - digit) / 10u) return false;
    sum = sum * 10u + digit;
  }
  *value = sum;
  return sum <= most;
}

// Where the word that begins at `from` ends: at a space, or at the end.
uint8_t word_end(const char* line, uint8_t from, uint8_t end) {
  while (from < end && line[from] != ' ') ++from;
  return from;
}

}  // namespace

uint16_t crc16(const char* data, uint8_t length) {
  uint16_t crc = 0xFFFF;
  for (uint8_t i = 0; i < length; ++i) {
    crc = static_cast<uint16_t>(crc ^ (static_cast<uint16_t>(static_cast<uint8_t>(data[i])) << 8));
    for (uint8_t bit = 0; bit < 8; ++bit) {
      crc = static_cast<uint16_t>((crc & 0x8000u) ? (crc << 1) ^ 0x1021u : crc << 1);
    }
  }
  return crc;
}

Request read_line(const char* line, uint8_t length) {
  Request request = {Fault::kGarbled, kUnasked, Verb::kNone, {0, 0, 0, 0, 0}};
  uint16_t crc = 0;
  if (length < 5 || length >= kMaxLine || line[length - 5] != '*' || !read_hex4(line + length - 4, &crc)) {
    return request;
  }
  const uint8_t end = static_cast<uint8_t>(length - 5);
  uint16_t seq = 0;
  if (crc != crc16(line, end) || end < 5 || line[4] != ' ' || !read_hex4(line, &seq)) return request;
  request.seq = seq;
  request.fault = Fault::kUnknown;
  uint8_t at = 5;
  uint8_t stop = word_end(line, at, end);
  const uint8_t size = static_cast<uint8_t>(stop - at);
  for (const Layout& layout : kLayouts) {
    if (strlen(layout.name) != size || strncmp(layout.name, line + at, size) != 0) continue;
    request.fault = Fault::kSyntax;
    request.verb = layout.verb;
    for (uint8_t field = 0; field < layout.fields; ++field) {
      if (stop >= end) return request;  // too few
      at = static_cast<uint8_t>(stop + 1);
      stop = word_end(line, at, end);
      const uint32_t most = ((layout.bytes >> field) & 1) ? 0xFFu : 0xFFFFFFFFu;
      if (!read_number(line + at, static_cast<uint8_t>(stop - at), most, &request.fields[field])) return request;
    }
    if (stop == end) request.fault = Fault::kNone;  // none too many
    return request;
  }
  return request;
}

bool LineReader::take(char byte) {
  if (byte != '\n') {
    if (length_ < kMaxLine) line_[length_++] = byte;
    return false;
  }
  complete_ = length_;
  length_ = 0;
  return complete_ != 0;
}

Request LineReader::request() const { return read_line(line_, complete_); }

LineWriter::LineWriter(uint16_t seq, const char* verb) {
  hex4(seq);
  word(verb);
}

LineWriter& LineWriter::number(uint32_t value) {
  char digits[10];
  uint8_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10u);
    value /= 10u;
  } while (value != 0);
  put(' ');
  while (count != 0) put(digits[--count]);
  return *this;
}

LineWriter& LineWriter::word(const char* text) {
  put(' ');
  while (*text != '\0') put(*text++);
  return *this;
}

const char* LineWriter::finish() {
  const uint16_t crc = crc16(line_, length_);
  put('*');
  hex4(crc);
  put('\n');
  return line_;
}

void LineWriter::put(char c) {
  if (length_ < kMaxLine) line_[length_++] = c;
}

void LineWriter::hex4(uint16_t value) {
  for (int8_t shift = 12; shift >= 0; shift = static_cast<int8_t>(shift - 4)) {
    put("0123456789ABCDEF"[(value >> shift) & 0xF]);
  }
}

}  // namespace hspc
