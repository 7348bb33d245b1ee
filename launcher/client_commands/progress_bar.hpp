#pragma once

#include <string>
#include <string_view>

namespace weft::launcher {

// One line on stderr that is drawn over; nothing at all unless stderr is a terminal.
class progress_bar {
 public:
  explicit progress_bar(bool wanted);
  ~progress_bar();  // wipes the line
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;

  // `part` of the whole in 0 .. 1.
  void show(double part, std::string_view label);
  void wipe();

 private:
  bool shown_;
  bool drawn_ = false;
};

// "[#####-----]  50% label", cut to `columns`.
std::string progress_line(double part, std::string_view label, unsigned columns);

}  // namespace weft::launcher
