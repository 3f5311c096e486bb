// The firmware's core on the host, behind a plain C interface: for the emulator and for the tests.
//   cd drivers/firmware && g++ -std=c++11 -shared -fPIC -I hspc_sorter -o libhspc_sorter.so host/*.cpp hspc_sorter/*.cpp
#include <stdint.h>

#include <string>

#include "sorter.h"

namespace {

struct Happening {
  uint8_t kind;  // 0 pulse, 1 armed, 2 disarmed
  uint8_t outlet;
  uint32_t command;
  uint32_t from_us;
  uint32_t to_us;
  char reason[16];
};

class HostBoard : public hspc::Board {
 public:
  void write(const char* line, uint8_t length) override { said.append(line, length); }
  void open(uint8_t) override {}
  void close(uint32_t command, uint8_t outlet, uint32_t opened_us, uint32_t closed_us) override {
    note(0, outlet, command, opened_us, closed_us, "");
  }
  void armed(bool on, uint32_t at_us, const char* reason) override { note(on ? 1 : 2, 0, 0, at_us, at_us, reason); }

  std::string said;
  std::string happenings;

 private:
  void note(uint8_t kind, uint8_t outlet, uint32_t command, uint32_t from_us, uint32_t to_us, const char* reason) {
    Happening h = {kind, outlet, command, from_us, to_us, {0}};
    for (unsigned i = 0; reason[i] != '\0' && i + 1 < sizeof h.reason; ++i) h.reason[i] = reason[i];
    happenings.append(reinterpret_cast<const char*>(&h), sizeof h);
  }
};

static_assert(sizeof(hspc::Sorter) < 1024, "a small board has 2 KiB for everything");

struct Core {
  Core(const hspc::Config& config, const std::string& name) : board_name(name), sorter(named(config), board) {}
  hspc::Config named(hspc::Config config) const {
    config.board = board_name.c_str();
    return config;
  }
  std::string board_name;
  HostBoard board;
  hspc::Sorter sorter;
};

uint32_t take(std::string& from, char* into, uint32_t room) {
  const uint32_t count = static_cast<uint32_t>(from.copy(into, room));
  from.erase(0, count);
  return count;
}

}  // namespace

extern "C" {

Core* core_new(uint8_t outlets, uint8_t capacity, uint32_t lead_us, uint32_t watchdog_us, const char* board) {
  const hspc::Config config = {outlets, capacity, lead_us, watchdog_us, nullptr};
  return new Core(config, board);
}
void core_free(Core* core) { delete core; }
void core_receive(Core* core, const char* data, uint32_t count, uint32_t now_us) {
  for (uint32_t i = 0; i < count; ++i) core->sorter.receive(data[i], now_us);
}
void core_advance(Core* core, uint32_t now_us) { core->sorter.advance(now_us); }
uint8_t core_due_in(Core* core, uint32_t now_us, uint32_t* in_us) { return core->sorter.due_in(now_us, in_us) ? 1 : 0; }
uint32_t core_said(Core* core, char* into, uint32_t room) { return take(core->board.said, into, room); }
uint32_t core_happened(Core* core, char* into, uint32_t room) {
  const uint32_t size = static_cast<uint32_t>(sizeof(Happening));
  return take(core->board.happenings, into, room / size * size);
}
uint32_t core_happening_bytes() { return static_cast<uint32_t>(sizeof(Happening)); }

}  // extern "C"
