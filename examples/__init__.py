"""Programs that show one use each; the demo and the tests run them too."""
