"""Why a tag was given: attention to time and box.

In: attention, views. Out: moments and boxes. Imports records, video views."""
