#include "progress_bar.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>

namespace weft::launcher {
namespace {

unsigned terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

std::string progress_line(double part, std::string_view label, unsigned columns) {
  constexpr int width = 24;
  const double clamped = std::isfinite(part) ? std::clamp(part, 0.0, 1.0) : 0.0;
  const int filled = static_cast<int>(clamped * width);
  const auto percent = std::to_string(static_cast<int>(clamped * 100));
  std::string line = "[" + std::string(static_cast<std::size_t>(filled), '#') +
                     std::string(static_cast<std::size_t>(width - filled), '-') + "] " +
                     std::string(3 - percent.size(), ' ') + percent + "% ";
  // Whatever a name holds, it must not move the cursor.
  for (const char c : label)
    line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  line.resize(std::min<std::size_t>(line.size(), columns > 1 ? columns - 1 : 0));
  return line;
}

progress_bar::progress_bar(bool wanted) : shown_(wanted && isatty(STDERR_FILENO) == 1) {}

progress_bar::~progress_bar() {
  wipe();
}

void progress_bar::show(double part, std::string_view label) {
  if (!shown_) return;
  std::cerr << "\r\x1b[K" << progress_line(part, label, terminal_columns()) << std::flush;
  drawn_ = true;
}

void progress_bar::wipe() {
  if (!drawn_) return;
  std::cerr << "\r\x1b[K" << std::flush;
  drawn_ = false;
}

}  // namespace weft::launcher
