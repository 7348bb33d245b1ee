// A document's bands for people: "kvzip 0.1 0.2 0.3 0.5 0.7 1  ".
#pragma once

#include <weft/client/client.hpp>

#include <sstream>
#include <string>

namespace weft::launcher {

// Empty where the rows were not scored.
inline std::string bands_text(const client::document_info& document) {
  if (document.importance.empty() || document.importance == "none") return {};
  std::ostringstream text;
  text << document.importance;
  for (const double ratio : document.band_ratios)
    text << " " << ratio;
  const bool trimmed = document.served_ratio >= 0 && document.served_ratio < document.band_ratios.back();
  if (trimmed) text << " (up to " << document.served_ratio << " held)";
  text << "  ";
  return text.str();
}

}  // namespace weft::launcher
