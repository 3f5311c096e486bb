// A sorter of HSPC Live on an Arduino-class board: the thin part that touches pins, clock and serial port.
//
// NOT YET TRIED ON A BOARD. What it calls (line.*, sorter.*) is compiled and tested on the host in CI.
//
// Each outlet drives one pin, high while the outlet is open. Give every pin a pull-down resistor: while the board starts
// or has no power, pins float, and the actuator must rest. Keep SERIAL_BAUD as in the settings (`sorter.baud`).
#include "sorter.h"

const uint32_t SERIAL_BAUD = 500000;  // exact on a 16 MHz AVR; of no meaning on boards with native USB
const uint8_t OUTLET_PINS[] = {8, 9}; // outlet 1, outlet 2
const uint8_t OUTLETS = sizeof(OUTLET_PINS) / sizeof(OUTLET_PINS[0]);

const hspc::Config CONFIG = {
    OUTLETS,
    hspc::kMostQueued,
    5000,    // lead: a command must come 5 ms before its pulse
    200000,  // watchdog: 0.2 s of silence, and the outlets rest
    "arduino",
};

class Pins : public hspc::Board {
 public:
  void write(const char* line, uint8_t length) override { Serial.write(reinterpret_cast<const uint8_t*>(line), length); }
  void open(uint8_t outlet) override { digitalWrite(OUTLET_PINS[outlet - 1], HIGH); }
  void close(uint32_t, uint8_t outlet, uint32_t, uint32_t) override { digitalWrite(OUTLET_PINS[outlet - 1], LOW); }
  void armed(bool on, uint32_t, const char*) override { digitalWrite(LED_BUILTIN, on ? HIGH : LOW); }
};

Pins pins;
hspc::Sorter sorter(CONFIG, pins);

void setup() {
  for (uint8_t i = 0; i < OUTLETS; ++i) {
    digitalWrite(OUTLET_PINS[i], LOW);  // before it becomes an output, or it would pulse
    pinMode(OUTLET_PINS[i], OUTPUT);
  }
  pinMode(LED_BUILTIN, OUTPUT);
  Serial.begin(SERIAL_BAUD);
}

void loop() {
  // pulses first, and between any two bytes: a chatty host must not make them late
  sorter.advance(micros());
  if (Serial.available() > 0) sorter.receive(static_cast<char>(Serial.read()), micros());
}
