"""What `make docs` does beyond Markdown: links out of docs/, and pages that are made from the code."""
