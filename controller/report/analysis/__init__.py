"""Numbers of the report, from a campaign's runs; nothing here knows how they are drawn."""
