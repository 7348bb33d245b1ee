// `weft export scores` and `weft export kept`.
#pragma once

#include <weft/launcher/command.hpp>

namespace weft::launcher::study {

void add_scores_export(CLI::App& parent, command_context& context);
void add_kept_export(CLI::App& parent, command_context& context);

}  // namespace weft::launcher::study
