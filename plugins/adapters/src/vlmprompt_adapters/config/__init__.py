"""Options of each method; these modules import no torch."""
