// The commands that need a model and no cluster: eval, export, tokenize.
#pragma once

#include <weft/launcher/command.hpp>

namespace weft::launcher::study {

void add_study_commands(CLI::App& app, command_context& context);

}  // namespace weft::launcher::study
