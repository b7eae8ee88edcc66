"""The paper's tables and figures as commands: which runs each is made of, and a page with ours beside what it says."""
