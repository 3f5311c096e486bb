#include "sorter.h"

namespace hspc {

namespace {

// Signed distance on a clock that wraps around: right within 35 minutes.
int32_t after(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b); }

const char kDisarmed[] = "disarmed";
const char kWatchdog[] = "watchdog";

}  // namespace

Sorter::Sorter(const Config& config, Board& board)
    : config_(config), board_(board), slots_(), idle_reason_(kDisarmed) {}

void Sorter::receive(char byte, uint32_t now_us) {
  if (!reader_.take(byte)) return;
  const Request request = reader_.request();
  switch (request.fault) {
    case Fault::kGarbled: nak(request.seq, "garbled"); break;
    case Fault::kUnknown: nak(request.seq, "unknown"); break;
    case Fault::kSyntax: nak(request.seq, "syntax"); break;
    case Fault::kNone:
      // any line that was understood proves the host alive, before anything that is due is done
      heard_us_ = now_us;
      advance(now_us);
      serve(request, now_us);
      break;
  }
}

void Sorter::serve(const Request& request, uint32_t now_us) {
  switch (request.verb) {
    case Verb::kHello: {
      begin(request.fields[1], now_us);
      LineWriter line(request.seq, "HI");
      line.number(kVersion).number(session_).number(config_.outlets).number(config_.capacity);
      line.number(config_.lead_us).number(config_.watchdog_us).word(config_.board);
      say(line);
      return;
    }
    case Verb::kPing: {
      LineWriter line(request.seq, "PONG");
      line.number(session_).number(now_us).number(armed_ ? 1 : 0).number(queued());
      say(line);
      return;
    }
    case Verb::kDisarm:
      rest(now_us, kDisarmed, true, false);
      say_state(request.seq, false, kDisarmed);
      return;
    default: break;
  }
  if (session_ == 0) {
    nak(request.seq, "session");
    return;
  }
  switch (request.verb) {
    case Verb::kArm:
      if (!armed_) {
        armed_ = true;
        board_.armed(true, now_us, "");
      }
      say_state(request.seq, true, "armed");
      break;
    case Verb::kFire: fire(request, now_us); break;
    case Verb::kAsk: ask(request.seq, request.fields[0]); break;
    default: break;
  }
}

void Sorter::begin(uint32_t session, uint32_t now_us) {
  rest(now_us, kDisarmed, false, false);  // unsaid: what an earlier host had ordered is nothing to this one
  for (Slot& slot : slots_) slot.state = State::kFree;
  any_ = false;
  session_ = session;
}

void Sorter::fire(const Request& request, uint32_t now_us) {
  const uint32_t command = request.fields[0];
  Slot* slot = find(command);
  if (slot == nullptr || slot->seq != request.seq) {
    if (any_ && command <= last_) {
      nak(request.seq, "duplicate");
      return;
    }
    const char* refused = objection(request, now_us);
    any_ = true;
    last_ = command;
    slot = &settled();
    slot->state = refused == nullptr ? State::kQueued : State::kRefused;
    slot->reason = refused;
    slot->seq = request.seq;
    slot->command = command;
    slot->outlet = static_cast<uint8_t>(request.fields[1]);
    slot->opens_us = request.fields[2];
    slot->closes_us = request.fields[2] + request.fields[3];
    slot->at_us = now_us;
    slot->age = arrivals_++;
  }
  // a line that is only repeated gets the answer that may have been lost
  if (slot->state == State::kRefused) {
    nak(request.seq, slot->reason);
  } else {
    LineWriter line(request.seq, "ACK");
    say(line);
  }
}

const char* Sorter::objection(const Request& request, uint32_t now_us) const {
  const uint32_t outlet = request.fields[1];
  const uint32_t opens_us = request.fields[2];
  const uint32_t width_us = request.fields[3];
  const int32_t ahead_us = after(opens_us, now_us);
  if (!armed_) return idle_reason_;
  if (width_us == 0 || width_us > kMaxWidthUs || ahead_us > kHorizonUs) return "invalid";
  if (outlet == 0 || outlet > config_.outlets) return "invalid";
  if (after(now_us, request.fields[4]) > 0 || ahead_us < static_cast<int32_t>(config_.lead_us)) return "too_late";
  if (queued() >= config_.capacity) return "queue_full";
  const uint32_t closes_us = opens_us + width_us;
  for (const Slot& slot : slots_) {
    const bool busy = slot.state == State::kQueued || slot.state == State::kOpen;
    if (busy && after(slot.closes_us, opens_us) > 0 && after(closes_us, slot.opens_us) > 0) return "overlap";
  }
  return nullptr;
}

void Sorter::ask(uint16_t seq, uint32_t command) {
  Slot* slot = find(command);
  if (slot == nullptr) {
    nak(seq, "forgotten");
  } else if (slot->state == State::kRefused) {
    nak(seq, slot->reason);
  } else if (slot->state == State::kFired || slot->state == State::kDropped) {
    say_end(seq, *slot);
  } else {
    LineWriter line(seq, "ACK");
    say(line);
  }
}

void Sorter::advance(uint32_t now_us) {
  while (armed_) {
    if (open_ >= 0) {
      if (after(now_us, slots_[open_].closes_us) >= 0) {
        close(now_us, true);
        continue;
      }
    }
    if (after(now_us, heard_us_ + config_.watchdog_us) >= 0) {
      rest(now_us, kWatchdog, true, true);
      return;
    }
    if (open_ >= 0) return;
    const int8_t next = first_queued(now_us);
    if (next < 0 || after(now_us, slots_[next].opens_us) < 0) return;
    Slot& slot = slots_[next];
    if (after(now_us, slot.closes_us) >= 0) {
      drop(slot, "slept", now_us, true);
    } else {
      slot.state = State::kOpen;
      slot.at_us = now_us;
      open_ = next;
      board_.open(slot.outlet);
    }
  }
}

bool Sorter::due_in(uint32_t now_us, uint32_t* in_us) const {
  if (!armed_) return false;
  int32_t in = after(heard_us_ + config_.watchdog_us, now_us);
  const int8_t next = open_ >= 0 ? open_ : first_queued(now_us);
  if (next >= 0) {
    const Slot& slot = slots_[next];
    const int32_t its = after(open_ >= 0 ? slot.closes_us : slot.opens_us, now_us);
    if (its < in) in = its;
  }
  *in_us = in < 0 ? 0 : static_cast<uint32_t>(in);
  return true;
}

void Sorter::close(uint32_t now_us, bool say) {
  Slot& slot = slots_[open_];
  open_ = -1;
  slot.state = State::kFired;
  board_.close(slot.command, slot.outlet, slot.at_us, now_us);
  if (say) say_end(kUnasked, slot);
}

void Sorter::rest(uint32_t now_us, const char* reason, bool say_drops, bool say_change) {
  if (open_ >= 0) close(now_us, say_drops);
  for (int8_t next = first_queued(now_us); next >= 0; next = first_queued(now_us)) {
    drop(slots_[next], reason, now_us, say_drops);
  }
  idle_reason_ = reason;
  if (!armed_) return;
  armed_ = false;
  board_.armed(false, now_us, reason);
  if (say_change) say_state(kUnasked, false, reason);
}

void Sorter::drop(Slot& slot, const char* reason, uint32_t now_us, bool say) {
  slot.state = State::kDropped;
  slot.reason = reason;
  slot.at_us = now_us;
  if (say) say_end(kUnasked, slot);
}

Sorter::Slot* Sorter::find(uint32_t command) {
  for (Slot& slot : slots_) {
    if (slot.state != State::kFree && slot.command == command) return &slot;
  }
  return nullptr;
}

// The slot to take next: a free one, else the oldest whose command has come to its end.
Sorter::Slot& Sorter::settled() {
  int8_t best = -1;
  for (int8_t i = 0; i < static_cast<int8_t>(kMemory); ++i) {
    const Slot& slot = slots_[i];
    if (slot.state == State::kFree) return slots_[i];
    if (slot.state == State::kQueued || slot.state == State::kOpen) continue;
    if (best < 0 || after(slots_[best].age, slot.age) > 0) best = i;
  }
  return slots_[best < 0 ? 0 : best];  // one has always ended: kMostQueued + 1 < kMemory
}

int8_t Sorter::first_queued(uint32_t now_us) const {
  int8_t best = -1;
  for (int8_t i = 0; i < static_cast<int8_t>(kMemory); ++i) {
    if (slots_[i].state != State::kQueued) continue;
    if (best < 0 || after(slots_[i].opens_us, now_us) < after(slots_[best].opens_us, now_us)) best = i;
  }
  return best;
}

uint8_t Sorter::queued() const {
  uint8_t count = 0;
  for (const Slot& slot : slots_) count = static_cast<uint8_t>(count + (slot.state == State::kQueued ? 1 : 0));
  return count;
}

void Sorter::say_state(uint16_t seq, bool armed, const char* reason) {
  LineWriter line(seq, "STATE");
  line.number(armed ? 1 : 0).word(reason);
  say(line);
}

void Sorter::say_end(uint16_t seq, const Slot& slot) {
  if (slot.state == State::kFired) {
    LineWriter line(seq, "DONE");
    line.number(slot.command).number(slot.at_us);
    say(line);
  } else {
    LineWriter line(seq, "DROP");
    line.number(slot.command).word(slot.reason).number(slot.at_us);
    say(line);
  }
}

void Sorter::say(LineWriter& line) {
  const char* text = line.finish();
  board_.write(text, line.length());
}

void Sorter::nak(uint16_t seq, const char* reason) {
  LineWriter line(seq, "NAK");
  line.word(reason);
  say(line);
}

}  // namespace hspc
