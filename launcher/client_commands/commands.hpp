#pragma once

#include <weft/launcher/command.hpp>

namespace weft::launcher {

void add_ingest_command(CLI::App& app, command_context& context);
void add_document_commands(CLI::App& app, command_context& context);  // documents, drop, pin, unpin
void add_block_commands(CLI::App& app, command_context& context);     // import, export-block
void add_ask_command(CLI::App& app, command_context& context);
void add_status_command(CLI::App& app, command_context& context);

}  // namespace weft::launcher
