// The sorter's rules and its queue, on a 32-bit microsecond clock that wraps around: no heap, no clock of its own.
//
// It does not trust the host: a command that comes too late, twice or while disarmed is refused; a host that falls
// silent finds the actuator at rest and the queue empty; a window that was slept through is not fired late. The same
// rules in Python: drivers/hspc_drivers/sorter_device.py and serial_device.py.
#pragma once

#include <stdint.h>

#include "line.h"

namespace hspc {

const uint8_t kMemory = 24;             // commands whose fate is remembered
const uint8_t kMostQueued = 16;         // fewer, so that a settled one can always make room
const uint32_t kMaxWidthUs = 1000000;   // an actuator held open for longer is a mistake
const int32_t kHorizonUs = 60000000;    // no cell is known so long before, but a clock may be wrong

struct Config {
  uint8_t outlets;       // numbered from 1
  uint8_t capacity;      // of the queue, at most kMostQueued
  uint32_t lead_us;      // a command must come so long before its pulse
  uint32_t watchdog_us;  // silence of the host after which the device makes itself safe
  const char* board;     // 1 to 16 letters, digits, '.', '_', '-'
};

// What the rules need of the board.
class Board {
 public:
  virtual void write(const char* line, uint8_t length) = 0;
  virtual void open(uint8_t outlet) = 0;
  virtual void close(uint32_t command, uint8_t outlet, uint32_t opened_us, uint32_t closed_us) = 0;
  virtual void armed(bool on, uint32_t at_us, const char* reason) = 0;

 protected:
  ~Board() {}  // never deleted through this class
};

class Sorter {
 public:
  Sorter(const Config& config, Board& board);
  // One byte from the host. `now_us` must never run backwards (but wraps around).
  void receive(char byte, uint32_t now_us);
  // Do what is due; call it in every turn of the loop.
  void advance(uint32_t now_us);
  // Microseconds until `advance` has something to do; false while disarmed.
  bool due_in(uint32_t now_us, uint32_t* in_us) const;

 private:
  enum class State : uint8_t { kFree, kQueued, kOpen, kRefused, kDropped, kFired };
  struct Slot {
    State state;
    uint8_t outlet;
    uint16_t seq;
    uint32_t command;
    uint32_t opens_us;
    uint32_t closes_us;
    uint32_t at_us;  // opening, or when it was dropped
    uint32_t age;    // order of arrival
    const char* reason;
  };

  void serve(const Request& request, uint32_t now_us);
  void begin(uint32_t session, uint32_t now_us);
  void fire(const Request& request, uint32_t now_us);
  const char* objection(const Request& request, uint32_t now_us) const;
  void ask(uint16_t seq, uint32_t command);
  void close(uint32_t now_us, bool say);
  void rest(uint32_t now_us, const char* reason, bool say_drops, bool say_state);
  void drop(Slot& slot, const char* reason, uint32_t now_us, bool say);
  Slot* find(uint32_t command);
  Slot& settled();
  int8_t first_queued(uint32_t now_us) const;
  uint8_t queued() const;
  void say_state(uint16_t seq, bool armed, const char* reason);
  void say_end(uint16_t seq, const Slot& slot);
  void say(LineWriter& line);
  void nak(uint16_t seq, const char* reason);

  const Config config_;
  Board& board_;
  LineReader reader_;
  Slot slots_[kMemory];
  int8_t open_ = -1;
  bool armed_ = false;
  const char* idle_reason_;
  uint32_t heard_us_ = 0;
  uint32_t session_ = 0;
  uint32_t arrivals_ = 0;
  bool any_ = false;  // whether `last_` is a command's number
  uint32_t last_ = 0;
};

}  // namespace hspc
