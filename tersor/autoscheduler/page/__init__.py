"""Search page: a search's report as one HTML file that needs nothing beside itself."""

from tersor.autoscheduler.page.page import search_page, write_search_page

__all__ = ["search_page", "write_search_page"]
