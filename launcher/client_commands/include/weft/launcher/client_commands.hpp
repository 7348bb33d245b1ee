// `weft ingest, documents, drop, pin, unpin, ask, status`.
#pragma once

#include <weft/launcher/command.hpp>

namespace weft::launcher {

// Both outlive the parsed App.
void add_client_commands(CLI::App& app, command_context& context);

}  // namespace weft::launcher
